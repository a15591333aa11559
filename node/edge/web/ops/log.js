/** Where each node stands in the log, and whose sockets do not keep up. */

import { classes, html } from "../html.js";
import { plural } from "../words.js";
import { disconnect } from "./actions.js";
import { bytes } from "./words.js";

export function LogPositions({ watch, now }) {
  const { stats } = watch;
  const names = Object.keys(stats.nodes);
  const partitions = Array.from({ length: stats.log.partitions }, (_, place) => place);
  return html`
    <section class="panel" aria-labelledby="log-title">
      <header class="panel-head"><h2 id="log-title">The log</h2></header>
      <p class="hint">${stats.log.up ? "It can be reached." : "It cannot be reached from this node."} Epoch <code>${stats.log.epoch}</code>. The last record that each node has applied:</p>
      <div class="scroll" role="region" aria-label="Positions in the log" tabindex="0">
        <table class="positions">
          <thead>
            <tr><th scope="col">Partition</th>${names.map((name) => html`<th key=${name} scope="col">${name}</th>`)}</tr>
          </thead>
          <tbody>
            ${partitions.map(
              (partition) => html`
                <tr key=${partition}>
                  <th scope="row">${partition === partitions.length - 1 ? `${partition}, sessions` : partition}</th>
                  ${names.map((name) => {
                    const behind = watch.isBehind(name, partition, now);
                    const position = stats.nodes[name].positions?.[partition];
                    return html`<td key=${name} class=${classes(behind && "is-behind")}>${position?.toLocaleString() ?? "?"}${behind ? " behind" : ""}</td>`;
                  })}
                </tr>
              `,
            )}
          </tbody>
        </table>
      </div>
    </section>
  `;
}

export function Outboxes({ watch, onAct }) {
  const { nodes } = watch.stats;
  const slow = Object.values(nodes).reduce((sum, { slow_sockets: count = 0 }) => sum + count, 0);
  const unsent = Object.values(nodes).reduce((sum, { outbox_bytes: count = 0 }) => sum + count, 0);
  const fullest = Object.entries(nodes).flatMap(([node, { fullest: some = [] }]) => some.map((socket) => ({ ...socket, node })));
  fullest.sort((a, b) => b.unsent - a.unsent);
  return html`
    <section class="panel" aria-labelledby="outboxes-title">
      <header class="panel-head"><h2 id="outboxes-title">Outboxes</h2></header>
      <p data-test="outboxes">${slow === 0 ? "No socket is slow" : plural(slow, "slow socket")}, ${bytes(unsent)} unsent.</p>
      <ul class="plain rows">
        ${fullest.map(
          (socket) => html`
            <li key=${socket.session} class="row">
              <span class="row-words">
                <b>${socket.user}</b>
                <span class="muted">${bytes(socket.unsent)} unsent${socket.slow ? ", slow" : ""}, on ${socket.node}, ${socket.transport}</span>
              </span>
              <button type="button" class="small" aria-label="Disconnect ${socket.user} on ${socket.node}" onClick=${() => onAct(disconnect(socket))}>Disconnect</button>
            </li>
          `,
        )}
      </ul>
    </section>
  `;
}
