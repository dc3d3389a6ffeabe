/** How does the time on a device look? A bar of its phases, each in the colour of its kind. */

import { Box, Flex, Text, h, seconds } from "./parts.js";

const COLOURS = {
  start: "gray.emphasized",
  wait: "yellow.solid",
  load: "orange.solid",
  transfer: "purple.solid",
  prefill: "blue.solid",
  decode: "green.solid",
  "prefill and decode": "cyan.solid",
  sync: "pink.solid",
};

/**
 * The phases of a placement between two moments, Unix seconds. The title and the label tell the same in words.
 *
 * @param {boolean} isCritical whether the run's end waited for it
 */
export function Bar({ receipt, from, to, isCritical = false }) {
  const percent = (at) => `${(100 * (at - from)) / (to - from || 1)}%`;
  const told = receipt.phases.map((phase) => `${phase.name} ${seconds(phase.end_at - phase.start_at)}`).join(", ");
  const label = `${receipt.measured ? "measured" : "expected"}: ${told}. ${receipt.reason}`;
  return h(
    Box,
    { position: "relative", h: "1.25rem", role: "img", "aria-label": label, title: label },
    receipt.phases.map((phase) =>
      h(Box, {
        key: phase.name,
        "data-phase": phase.name,
        bg: COLOURS[phase.name],
        bottom: isCritical ? "4px" : "2px",
        left: percent(phase.start_at),
        opacity: receipt.measured ? 1 : 0.6,
        position: "absolute",
        top: "2px",
        w: `calc(${percent(from + phase.end_at - phase.start_at)} + 1px)`,
      }),
    ),
    isCritical &&
      h(Box, {
        bg: "red.solid",
        bottom: 0,
        h: "3px",
        left: percent(receipt.claimed_at),
        position: "absolute",
        right: `calc(100% - ${percent(receipt.phases.at(-1)?.end_at ?? receipt.claimed_at)})`,
      }),
  );
}

/** Whether more will be known of a placement: its end, or what was measured, which comes a moment later. */
export const isOpen = (receipt) =>
  receipt.ended_at === null || (receipt.outcome === "success" && !receipt.measured);

/** The kinds of phases that there are, with their colours. */
export function Legend({ receipts }) {
  const there = new Set(receipts.flatMap((receipt) => receipt.phases.map(({ name }) => name)));
  return h(
    Flex,
    { gap: 3, wrap: "wrap", my: 2, "aria-hidden": true },
    Object.entries(COLOURS)
      .filter(([name]) => there.has(name))
      .map(([name, bg]) =>
        h(
          Flex,
          { key: name, align: "center", gap: 1 },
          h(Box, { bg, h: "0.75rem", w: "0.75rem" }),
          h(Text, { fontSize: "xs" }, name),
        ),
      ),
  );
}
