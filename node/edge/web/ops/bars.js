/**
 * A bar chart in SVG: bars that move to the left as time goes on, a line over them, and a mark for what there is room for.
 * At another width it is another picture, so that nothing moves there from the old one.
 */

import { classes, html, useLayoutEffect, useRef, useState } from "../html.js";

const LEFT = 44; // room for the scale, in pixels
const BELOW = 20; // for the times
const ABOVE = 18; // for the figure over the highest bar

/**
 * @typedef {object} Column
 * @property {string | number} key the same as long as it is the same moment: its bar then moves
 * @property {{value: number, tone: string}[]} parts from the bottom up
 * @property {string} title what a pointer that rests on it is told
 * @property {number} [over] the height of the line here
 */

/**
 * The chart is one picture to a screen reader, called `label`: what is in it has to stand in a table beside it.
 *
 * @param {{label: string, columns: Column[], top: number, height?: number, mark?: {value: number, text: string},
 *   times: {place: number, text: string}[], figure?: boolean}} props `top`: of the scale; `times`: below it, each at a column's beginning;
 *   `figure`: whether the highest bar has its height written over it
 */
export function Bars({ label, columns, top, height = 190, mark, times, figure = false }) {
  const frame = useRef();
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const measure = () => setWidth(Math.floor(frame.current.clientWidth));
    const watching = new ResizeObserver(measure);
    watching.observe(frame.current);
    measure();
    return () => watching.disconnect();
  }, []);
  const plot = { left: LEFT, top: ABOVE, width: Math.max(0, width - LEFT), height: height - ABOVE - BELOW };
  const step = plot.width / columns.length;
  const y = (value) => plot.top + plot.height * (1 - Math.min(1, value / top));
  return html`
    <div class="chart" ref=${frame}>
      ${width > 0 &&
      html`<svg key=${width} role="img" aria-label=${label} width=${width} height=${height} viewBox="0 0 ${width} ${height}">
        <${Scale} plot=${plot} top=${top} y=${y} />
        ${columns.map((column, place) => html`<${Bar} key=${column.key} column=${column} x=${plot.left + place * step} step=${step} y=${y} />`)}
        <${Over} columns=${columns} plot=${plot} step=${step} y=${y} />
        ${mark && html`<${Mark} mark=${mark} plot=${plot} top=${top} y=${y} />`}
        ${figure && html`<${Figure} columns=${columns} plot=${plot} step=${step} y=${y} />`}
        ${times.map(({ place, text }) => html`<text class="chart-time" x=${plot.left + place * step} y=${height - 5}>${text}</text>`)}
      </svg>`}
    </div>
  `;
}

function Scale({ plot, top, y }) {
  return [0, top / 2, top].map(
    (value) => html`
      <g key=${value === 0 ? "none" : value === top ? "top" : "half"}>
        <line class="chart-rule" x1=${plot.left} x2=${plot.left + plot.width} y1=${y(value)} y2=${y(value)} />
        <text class="chart-scale" x=${plot.left - 6} y=${y(value) + 4}>${value.toLocaleString()}</text>
      </g>
    `,
  );
}

function Bar({ column, x, step, y }) {
  let below = 0;
  const width = Math.max(1, step - (step > 4 ? 1.5 : 0.5));
  return html`
    <g class="chart-moves" transform="translate(${x} 0)">
      <title>${column.title}</title>
      <rect class="chart-hit" y=${y(Infinity)} width=${step} height=${y(0) - y(Infinity)} />
      ${column.parts.map(({ value, tone }, place) => {
        const bottom = y(below);
        below += value;
        return html`<rect key=${place} class="chart-bar tone-${tone}" y=${y(below)} width=${width} height=${bottom - y(below)} />`;
      })}
    </g>
  `;
}

/** The line over the bars, in steps; broken where there is nothing. */
function Over({ columns, plot, step, y }) {
  let path = "";
  let drawing = false;
  columns.forEach(({ over = 0 }, place) => {
    if (over > 0) path += `${drawing ? "L" : "M"}${plot.left + place * step} ${y(over)}h${step}`;
    drawing = over > 0;
  });
  return path && html`<path class="chart-over" d=${path} />`;
}

/** What there is room for: a line, or a word where it lies above the scale. */
function Mark({ mark, plot, top, y }) {
  const above = mark.value > top;
  const at = above ? plot.top : y(mark.value);
  return html`
    <g class=${classes("chart-mark", above && "is-above")}>
      ${!above && html`<line x1=${plot.left} x2=${plot.left + plot.width} y1=${at} y2=${at} />`}
      <text x=${plot.left + plot.width} y=${at - 5}>${mark.text}${above ? " ↑" : ""}</text>
    </g>
  `;
}

/** The height of the highest bar, in figures. */
function Figure({ columns, plot, step, y }) {
  const heights = columns.map(({ parts }) => parts.reduce((sum, { value }) => sum + value, 0));
  const most = Math.max(...heights);
  if (most === 0) return null;
  const place = heights.indexOf(most);
  const x = Math.min(plot.left + plot.width - 12, Math.max(plot.left + 12, plot.left + (place + 0.5) * step));
  return html`
    <g key=${columns[place].key} class="chart-moves" transform="translate(${x} 0)">
      <text class="chart-figure" y=${y(most) - 4}>${most.toLocaleString()}</text>
    </g>
  `;
}
