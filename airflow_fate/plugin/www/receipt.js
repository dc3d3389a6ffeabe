/** Why did this task run there, what was expected, and what happened? The receipts of a task instance's tries. */

import { Badge, Box, Code, Figures, Flex, Heading, Notice, Rows, Text, View } from "./parts.js";
import { count, h, moment, seconds, usePolled } from "./parts.js";
import { Bar, Legend, isOpen } from "./phases.js";

const EVERY_MS = 3_000;

function Receipts({ dagId, runId, taskId, mapIndex }) {
  const query = { run_id: runId, task_id: taskId, map_index: mapIndex ?? -1 };
  const going = ({ receipts }) => receipts.length === 0 || receipts.some(isOpen);
  const known = usePolled(`dags/${encodeURIComponent(dagId)}/receipts`, query, (data) =>
    data.is_placed_by_fate && going(data) ? EVERY_MS : null,
  );
  return h(View, { title: "Receipt", known }, (task) =>
    task.receipts.length === 0
      ? h(Nothing, { isPlacedByFate: task.is_placed_by_fate })
      : h(Box, null, task.receipts.toReversed().map((receipt) => h(Receipt, { key: receipt.reservation, receipt }))),
  );
}

function Nothing({ isPlacedByFate }) {
  return isPlacedByFate
    ? h(
        Notice,
        null,
        h(Text, { fontWeight: "semibold" }, "This task has no receipt yet."),
        h(Text, null, "It waits for a device, was never ready, or failed before it got one. Its log says which."),
        h(Text, null, "Receipts are kept for as many days as ", h(Code, null, "[fate] keep_days"), " says."),
      )
    : h(
        Notice,
        null,
        h(Text, { fontWeight: "semibold" }, "This task is not placed by FATE, and all is well with it."),
        h(Text, null, "FATE places tasks that ask a language model: LLMOperator, @task.fate_llm, and common-ai's"),
        h(Text, null, "operators with a connection of type fate. Such a task says here where it ran, and why."),
      );
}

function Receipt({ receipt }) {
  const where = receipt.devices.map(({ device, prompts }) => (prompts > 1 ? `${device} (${prompts} prompts)` : device));
  return h(
    Box,
    { as: "article", borderWidth: 1, borderRadius: "md", p: 4, mb: 4, "data-receipt": receipt.reservation },
    h(
      Flex,
      { gap: 2, align: "center", mb: 2, wrap: "wrap" },
      h(Heading, { as: "h3", size: "md" }, where.join(", ")),
      h(Badge, null, `try ${receipt.try_number}`),
      h(Badge, { colorPalette: "blue" }, receipt.model),
      h(Badge, { colorPalette: { success: "green", failed: "red" }[receipt.outcome] ?? "gray" }, receipt.outcome ?? "running"),
    ),
    h(Text, { mb: 3 }, receipt.reason),
    receipt.faults.map(([device, kind]) =>
      h(Notice, { key: device, palette: "red" }, `${device} could not serve it: ${kind}.`),
    ),
    h(Bar, { receipt, from: receipt.claimed_at, to: receipt.phases.at(-1)?.end_at ?? receipt.claimed_at }),
    h(Legend, { receipts: [receipt] }),
    h(Parts, { receipt }),
    h(Figures, {
      of: {
        "expected in all": seconds(receipt.expected_end_at - receipt.claimed_at),
        "device held": receipt.ended_at === null ? "until now" : seconds(receipt.ended_at - receipt.claimed_at),
        "cost to others": future(receipt.future_s),
        "tokens cached": receipt.tokens ? `${count(receipt.tokens.cached)} of ${count(receipt.tokens.prompt)}` : "–",
        "tokens answered": receipt.tokens ? count(receipt.tokens.completion) : "–",
        requests: receipt.tokens ? count(receipt.tokens.requests) : "–",
      },
    }),
    h(Rows, {
      name: "Times",
      heads: ["", "Expected", "Really"],
      rows: [
        ["claimed", ["claimed", "–", moment(receipt.claimed_at)]],
        ["prefill ends", ["prefill ends", moment(receipt.expected_prefill_end_at), "–"]],
        ["ends", ["ends", moment(receipt.expected_end_at), moment(receipt.ended_at)]],
      ],
    }),
    receipt.evicted.length > 0 &&
      h(Text, null, `It evicted ${receipt.evicted.map(([place, model]) => `${model} from ${place}`).join(", ")}.`),
    h(Text, { color: "fg.muted", fontSize: "xs" }, `Decided by ${receipt.policy}; reservation ${receipt.reservation}.`),
  );
}

function Parts({ receipt }) {
  return h(Rows, {
    name: "Parts of its time",
    heads: ["Part", "Expected", "Measured"],
    rows: receipt.parts.map((part) => [part.name, [part.name, seconds(part.expected_s), seconds(part.measured_s)]]),
  });
}

function future(futureS) {
  if (futureS === null) return "–";
  return futureS < 0 ? `saves ${seconds(-futureS)}` : seconds(futureS);
}

globalThis.AirflowPlugin = Receipts;
