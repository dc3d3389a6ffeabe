/** What do all views share? The host's React and Chakra, how data is asked for, and how it is told. */

export const { createElement: h, useEffect, useState } = globalThis.React;
export const { Badge, Box, Button, Code, Flex, Heading, Input, Table, Text } = globalThis.ChakraUI;

/**
 * Data of a route, asked for again and again while the page is in sight.
 *
 * @param {string} path below the plugin's `api/`
 * @param {Object<string, string | number>} query
 * @param {(data: any) => number | null} next milliseconds until it is asked for again; null for never
 * @returns {{data: any, error: string}} the last data stays while it can't be had anew
 */
export function usePolled(path, query, next) {
  const address = new URL(`../api/${path}`, import.meta.url);
  address.search = new URLSearchParams(query);
  const { href } = address;
  const [known, setKnown] = useState({ data: null, error: "" });
  useEffect(() => {
    const ended = new AbortController();
    let timer;
    async function ask() {
      let wait = 10_000;
      try {
        const data = document.hidden ? null : await answer(href, ended.signal);
        if (data !== null) setKnown({ data, error: "" });
        wait = data === null ? 1_000 : next(data);
      } catch (error) {
        if (ended.signal.aborted) return;
        setKnown(({ data }) => ({ data, error: error.message }));
      }
      if (wait !== null && !ended.signal.aborted) timer = setTimeout(ask, wait);
    }
    ask();
    return () => {
      ended.abort();
      clearTimeout(timer);
    };
  }, [href]);
  return known;
}

async function answer(href, signal) {
  const response = await fetch(href, { signal });
  if (response.ok) return response.json();
  if (response.status === 401) throw new Error("You are not logged in any more: load this page again.");
  if (response.status === 403) throw new Error("You may not see this. Ask an administrator of this Airflow.");
  const { detail } = await response.json().catch(() => ({}));
  throw new Error(typeof detail === "string" ? detail : `The server answered ${response.status}.`);
}

/** The frame of each view: its title, what went wrong, and its content once there is some. */
export function View({ title, known, children }) {
  return h(
    Box,
    { p: 4, "data-fate": title },
    h(Heading, { as: "h2", size: "lg", mb: 3 }, title),
    known.error && h(Notice, { role: "alert", palette: "red" }, known.error),
    known.data === null && !known.error ? h(Text, { role: "status" }, "Loading …") : null,
    known.data === null ? null : children(known.data),
  );
}

/** A few sentences in a frame. */
export function Notice({ palette = "blue", role = "status", children }) {
  const look = { colorPalette: palette, borderWidth: 1, borderColor: "colorPalette.emphasized" };
  return h(Box, { ...look, bg: "colorPalette.subtle", borderRadius: "md", p: 4, mb: 4, role }, children);
}

/** A number with its name. */
export function Figure({ name, value }) {
  return h(
    Box,
    { borderWidth: 1, borderRadius: "md", px: 4, py: 2, minW: "7rem", "data-figure": name },
    h(Text, { color: "fg.muted", fontSize: "xs" }, name),
    h(Text, { fontSize: "lg", fontWeight: "semibold" }, value),
  );
}

/** A row of figures. */
export function Figures({ of }) {
  return h(
    Flex,
    { gap: 3, wrap: "wrap", mb: 4 },
    Object.entries(of).map(([name, value]) => h(Figure, { key: name, name, value })),
  );
}

/**
 * A table. Each row is `[key, cells]`; the first cell heads its row.
 *
 * @param {string} name for those who don't see it
 */
export function Rows({ name, heads, rows }) {
  return h(
    Box,
    { overflowX: "auto", mb: 4 },
    h(
      Table.Root,
      { size: "sm", "aria-label": name },
      h(
        Table.Header,
        null,
        h(Table.Row, null, heads.map((head, at) => h(Table.ColumnHeader, { key: at, scope: "col" }, head))),
      ),
      h(
        Table.Body,
        null,
        rows.map(([key, [first, ...cells]]) =>
          h(
            Table.Row,
            { key, "data-row": key },
            h(Table.ColumnHeader, { scope: "row", fontWeight: "medium" }, first),
            cells.map((cell, at) => h(Table.Cell, { key: at }, cell)),
          ),
        ),
      ),
    ),
  );
}

/** Which of many are shown, and the way to the others. */
export function Pages({ offset, setOffset, size, all }) {
  if (all <= size && offset === 0) return null;
  const last = Math.min(offset + size, all);
  const turn = (name, to, disabled) => h(Button, { size: "xs", disabled, onClick: () => setOffset(to) }, name);
  return h(
    Flex,
    { gap: 3, align: "center", as: "nav", "aria-label": "Pages" },
    turn("Before", Math.max(0, offset - size), offset === 0),
    h(Text, null, `${count(offset + 1)} to ${count(last)} of ${count(all)}`),
    turn("Next", offset + size, last >= all),
  );
}

export const seconds = (value) => (value === null ? "–" : `${value.toFixed(2)} s`);
/** In whatever currency the price is. */
export const money = (value) =>
  value === null ? "–" : value.toLocaleString(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 4 });
export const count = (value) => value.toLocaleString();
export const moment = (unixSeconds) => (unixSeconds === null ? "–" : new Date(unixSeconds * 1000).toLocaleString());
