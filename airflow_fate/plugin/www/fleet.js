/** What is the fleet doing now? Sums over all devices, and the devices by node, a page at a time. */

import { Badge, Box, Button, Code, Figures, Flex, Input, Notice, Pages, Rows, Text, View } from "./parts.js";
import { count, h, usePolled, useState } from "./parts.js";

const EVERY_MS = 3_000;
const PAGE = 50;
const PALETTES = {
  ready: "green",
  member: "teal",
  draining: "orange",
  stale: "red",
  "not ready": "red",
  unseen: "gray",
};

function Fleet() {
  const [text, setText] = useState("");
  const [state, setState] = useState("");
  const [offset, setOffset] = useState(0);
  const filter = { ...(text && { text }), ...(state && { state }) };
  const known = usePolled("fleet", { ...filter, offset, limit: PAGE }, () => EVERY_MS);
  const choose = (set) => (value) => {
    set(value);
    setOffset(0);
  };
  return h(View, { title: "Fleet", known }, (fleet) =>
    Object.keys(fleet.states).length === 0
      ? h(Nothing)
      : h(
          Box,
          null,
          h(Figures, {
            of: {
              nodes: count(fleet.nodes),
              devices: count(Object.values(fleet.states).reduce((sum, number) => sum + number, 0)),
              running: count(fleet.running),
              queued: count(fleet.queued),
              prefixes: count(fleet.prefixes),
            },
          }),
          h(Models, { models: fleet.models }),
          h(Filter, { fleet, text, setText: choose(setText), state, setState: choose(setState) }),
          fleet.matching === 0
            ? h(Notice, null, "No device is like that. Choose another state, or clear the text.")
            : h(Devices, { devices: fleet.devices }),
          h(Pages, { offset, setOffset, size: PAGE, all: fleet.matching }),
        ),
  );
}

function Nothing() {
  return h(
    Notice,
    null,
    h(Text, { fontWeight: "semibold" }, "No device is known yet."),
    h(Text, null, "On one machine, start a fleet with ", h(Code, null, "fate fleet up --file fleet.yaml"), "."),
    h(Text, null, "On Kubernetes, install a pool of the chart, and let this server read pods and nodes."),
    h(Text, null, "What is missing is told by ", h(Code, null, "fate doctor"), "."),
  );
}

function Models({ models }) {
  return h(Rows, {
    name: "Models",
    heads: ["Model", "Resident on", "Loading on", "Asleep in host memory of"],
    rows: models.map((model) => [model.model, [model.model, count(model.resident), count(model.loading), count(model.asleep)]]),
  });
}

/** Each state is a button that shows its devices alone. */
function Filter({ fleet, text, setText, state, setState }) {
  return h(
    Flex,
    { gap: 2, wrap: "wrap", align: "center", mb: 3 },
    h(Input, {
      "aria-label": "Find devices by name, node, GPU or model",
      placeholder: "Device, node, GPU or model",
      value: text,
      onChange: (event) => setText(event.target.value),
      size: "sm",
      maxW: "18rem",
    }),
    Object.entries(fleet.states).map(([name, devices]) =>
      h(
        Button,
        {
          key: name,
          "aria-pressed": state === name,
          colorPalette: PALETTES[name],
          onClick: () => setState(state === name ? "" : name),
          size: "xs",
          variant: state === name ? "solid" : "outline",
        },
        `${name}: ${count(devices)}`,
      ),
    ),
  );
}

function Devices({ devices }) {
  return h(Rows, {
    name: "Devices",
    heads: ["Device", "Node", "GPU", "State", "Models", "Prefixes", "Running", "Queued", "Seen"],
    rows: devices.map((device) => [
      device.device,
      [
        device.device,
        device.zone ? `${device.node} (${device.zone})` : device.node,
        `${device.gpu}, ${(device.memory_bytes / 1e9).toPrecision(3)} GB`,
        h(State, { device }),
        h(Residents, { device }),
        `${count(device.prefixes)} (${count(device.prefix_tokens)} tokens)`,
        `${count(device.running)} of ${count(device.sequences)}`,
        count(device.queued),
        device.seen_age_s === null ? "never" : `${device.seen_age_s.toFixed(0)} s ago`,
      ],
    ]),
  });
}

function State({ device }) {
  return h(
    Box,
    null,
    h(Badge, { colorPalette: PALETTES[device.state] }, device.state),
    device.why && h(Text, { color: "fg.muted", fontSize: "xs" }, device.why),
  );
}

function Residents({ device }) {
  const badges = (models, palette, note) =>
    models.map((model) => h(Badge, { key: model, colorPalette: palette }, note ? `${model} (${note})` : model));
  return h(
    Flex,
    { gap: 1, wrap: "wrap" },
    badges(device.resident, "green", ""),
    badges(device.loading, "orange", "loading"),
    badges(device.asleep, "gray", "asleep"),
  );
}

globalThis.AirflowPlugin = Fleet;
