// How a report looks.
#pragma once

#include <string_view>

namespace gpt {

inline constexpr std::string_view kReportStyle = R"(:root {
  color-scheme: light dark;
  --page: #f6f6f4; --card: #ffffff; --ink: #1c1e21; --soft: #646a72; --line: #e4e5e3;
  --train: #2f6bd8; --eval: #d2622a; --point: rgba(47, 107, 216, .10);
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #121416; --card: #1a1d20; --ink: #e8e9eb; --soft: #9ba1a9; --line: #2d3135;
    --train: #6c9ff3; --eval: #ec8f5b; --point: rgba(108, 159, 243, .14);
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1000px; margin: 0 auto; padding: 48px 24px 72px; }
h1 { margin: 0; font-size: 28px; line-height: 1.25; font-weight: 650; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 44px 0 14px; font-size: 17px; font-weight: 650; }
h3 { margin: 0 0 10px; font-size: 13px; font-weight: 600; color: var(--soft); }
.status { margin: 6px 0 0; color: var(--soft); overflow-wrap: anywhere; }
.card, figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; }
.highlights {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 1px; margin: 28px 0 0; padding: 0;
  background: var(--line); overflow: hidden;
}
.highlights div { display: flex; flex-direction: column; justify-content: space-between; background: var(--card); padding: 14px 20px; }
.highlights dt { color: var(--soft); font-size: 13px; }
.highlights dd { margin: 2px 0 0; font-size: 22px; font-weight: 600; letter-spacing: -.01em; }
.curves { display: grid; grid-template-columns: repeat(3, 1fr); gap: 16px; }
.curves figure { padding: 16px 12px 8px 8px; overflow-x: auto; }
.curves figure:first-child { grid-column: 1 / -1; }
.curves figure:first-child svg { min-width: 620px; }
figcaption { padding: 0 8px 6px 10px; font-size: 13px; font-weight: 600; }
.key { margin-left: 16px; font-weight: 400; color: var(--soft); }
.key.train::before, .key.eval::before { content: ""; display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin: 0 6px 3px 0; }
.key.train::before { background: var(--train); }
.key.eval::before { background: var(--eval); }
svg { display: block; width: 100%; height: auto; font: 11px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
.tick { fill: var(--soft); }
.tick.y { text-anchor: end; }
.tick.x { text-anchor: middle; }
.end { fill: var(--ink); font-weight: 600; }
.grid { fill: none; stroke: var(--line); }
.line { fill: none; stroke-width: 1.75; stroke-linejoin: round; stroke-linecap: round; }
.line.train { stroke: var(--train); }
.line.eval { stroke: var(--eval); }
.line.pale { stroke-width: 1; opacity: .3; }
.dot { stroke: var(--card); stroke-width: 1; }
.dot.train { fill: var(--train); }
.dot.eval { fill: var(--eval); }
.column { fill: transparent; }
.column:hover { fill: var(--point); }
.sample { padding: 0; overflow: hidden; margin-bottom: 16px; }
.sample pre {
  margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate;
  font: 13.5px/1.55 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
.sample .prompt { padding: 16px 20px; border-bottom: 1px solid var(--line); }
.sample .texts { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 1px; background: var(--line); }
.sample .texts div { background: var(--card); padding: 16px 20px; }
.prompt pre { color: var(--soft); }
.tables { columns: 2 380px; column-gap: 16px; }
.tables .card { margin-bottom: 16px; break-inside: avoid; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 3px 20px; margin: 0; font-size: 13.5px; }
.facts dt { color: var(--soft); }
.facts dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; font-size: 13.5px; }
th, td { padding: 4px 0; text-align: right; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 400; }
th:first-child, td:first-child { text-align: left; }
tr:last-child td { border-bottom: 0; }
.best td { font-weight: 600; }
summary { cursor: pointer; font-size: 13px; font-weight: 600; color: var(--soft); }
details.card { margin-top: 16px; }
details table { margin-top: 10px; }
@media (max-width: 720px) {
  main { padding: 28px 14px 48px; }
  .curves { grid-template-columns: 1fr; }
}
@media print { main { padding: 0; max-width: none; } .card, figure { break-inside: avoid; } }
)";

}  // namespace gpt
