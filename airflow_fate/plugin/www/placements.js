/** What made this run take so long? Its placements over time, and which of them its end waited for. */

import { Box, Figures, Flex, Notice, Pages, Rows, Text, View, count, h, money, seconds, usePolled, useState } from "./parts.js";
import { Bar, Legend, isOpen } from "./phases.js";

const EVERY_MS = 3_000;
const PAGE = 100;

function Placements({ dagId, runId }) {
  const [offset, setOffset] = useState(0);
  const going = ({ placements }) => placements.length === 0 || placements.some(({ receipt }) => isOpen(receipt));
  const path = `dags/${encodeURIComponent(dagId)}/placements`;
  const known = usePolled(path, { run_id: runId }, (run) => (going(run) ? EVERY_MS : null));
  return h(View, { title: "Placements", known }, (run) =>
    run.placements.length === 0
      ? h(Nothing)
      : h(
          Box,
          null,
          h(Sums, { run }),
          h(Legend, { receipts: run.placements.map(({ receipt }) => receipt) }),
          h(Gantt, { run, shown: run.placements.slice(offset, offset + PAGE) }),
          h(Pages, { offset, setOffset, size: PAGE, all: run.placements.length }),
        ),
  );
}

function Nothing() {
  return h(
    Notice,
    null,
    h(Text, { fontWeight: "semibold" }, "FATE has placed nothing of this run yet."),
    h(Text, null, "Each LLM task appears here as soon as it has a device. A run without such tasks stays empty."),
  );
}

function Sums({ run }) {
  const receipts = run.placements.map(({ receipt }) => receipt);
  const sum = (read) => receipts.reduce((total, receipt) => total + read(receipt), 0);
  return h(Figures, {
    of: {
      placements: count(receipts.length),
      devices: count(new Set(receipts.flatMap((receipt) => receipt.devices.map(({ device }) => device))).size),
      "from first claim to last end": seconds(run.end_at - run.start_at),
      "GPU time": seconds(run.cost.gpu_s),
      "of it loads": seconds(run.cost.load_s),
      ...(run.cost.money === null ? {} : { cost: money(run.cost.money) }),
      "on the critical path": count(run.placements.filter((placement) => placement.is_critical).length),
      "tokens cached": `${count(sum((receipt) => receipt.tokens?.cached ?? 0))} of ${count(sum((receipt) => receipt.tokens?.prompt ?? 0))}`,
    },
  });
}

/** Hovering tells a bar's parts and its reason; so does its label, to those who don't see it. */
function Gantt({ run, shown }) {
  return h(
    Box,
    null,
    h(
      Text,
      { color: "fg.muted", fontSize: "xs", mb: 2 },
      "A red line marks what the run's end waited for. Pale bars are expected, full ones measured.",
    ),
    h(Rows, {
      name: "Placements over time",
      heads: ["Task", "Device", "GPU time", "Cost", h(Axis, { key: "axis", run })],
      rows: shown.map(({ receipt, is_critical: isCritical, cost }) => [
        receipt.reservation,
        [
          `${nameOf(receipt)}${receipt.try_number > 1 ? `, try ${receipt.try_number}` : ""}`,
          receipt.devices.map(({ device }) => device).join(", "),
          seconds(cost.gpu_s),
          money(cost.money),
          h(Bar, { receipt, isCritical, from: run.start_at, to: run.end_at }),
        ],
      ]),
    }),
  );
}

function Axis({ run }) {
  const length = run.end_at - run.start_at;
  return h(
    Flex,
    { justify: "space-between", minW: "24rem" },
    [0, 0.25, 0.5, 0.75, 1].map((share) => h(Text, { key: share, fontSize: "xs" }, `${(share * length).toFixed(1)} s`)),
  );
}

const nameOf = (receipt) => (receipt.map_index < 0 ? receipt.task_id : `${receipt.task_id}[${receipt.map_index}]`);

globalThis.AirflowPlugin = Placements;
