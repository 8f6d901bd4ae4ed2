"""How the page looks: one style sheet, which knows light and dark."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{--page:#f4f6f8;--card:#fff;--ink:#17212b;--soft:#5c6b7a;--line:#dde3e9;--accent:#2463d6;--gain:#0b7a55;--loss:#c2402a}
@media (prefers-color-scheme:dark){:root{--page:#0f151b;--card:#182029;--ink:#e6ecf2;--soft:#93a3b3;--line:#2b3743;
--accent:#6ea0ff;--gain:#3fc48f;--loss:#ff8066}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:24px 16px 48px}
header{margin:0 4px 18px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:1rem;margin:0 0 12px}
header p{margin:0 0 10px;color:var(--soft)}
.chips{display:flex;flex-wrap:wrap;gap:6px}
.chip{background:var(--card);border:1px solid var(--line);border-radius:99px;padding:2px 10px;font-size:.85rem;
color:var(--soft);overflow-wrap:anywhere}
.chip b{color:var(--ink);font-weight:600}
.card,.kpi{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:16px 18px;margin:0 0 14px}
.kpis{display:grid;grid-template-columns:repeat(4,1fr);gap:12px;margin:0 0 14px}
.kpi{margin:0;padding:12px 16px}
.kpi span{display:block;color:var(--soft);font-size:.8rem}
.kpi b{font-size:1.2rem;font-weight:650;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.gain{color:var(--gain)}.loss{color:var(--loss)}
.groups{columns:2;column-gap:14px;margin:0}
.groups .card{break-inside:avoid}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
.pairs th{font-weight:400;color:var(--soft);text-align:left;padding:4px 12px 4px 0;vertical-align:top}
.pairs td{text-align:right;padding:4px 0;overflow-wrap:anywhere}
.pairs tr+tr>*{border-top:1px solid var(--line)}
.scroll{overflow-x:auto}
.months{min-width:640px;font-size:.85rem;border-spacing:2px;border-collapse:separate}
.months th{font-weight:500;color:var(--soft);padding:4px 6px;text-align:center}
.months td{text-align:center;padding:7px 4px;border-radius:5px}
.months .year{font-weight:650}
.note,figcaption{color:var(--soft);font-size:.82rem;margin:8px 0 0}
figure{margin:0}
.plot{position:relative;margin:0 6px 0 58px}
.plot+.plot{margin-top:14px}
.plot svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible}
.plot path,.plot line,.plot polyline,.plot polygon,.plot rect{vector-effect:non-scaling-stroke}
.plot span{position:absolute;color:var(--soft);font-size:.75rem;white-space:nowrap;font-variant-numeric:tabular-nums}
.plot .y{right:100%;margin-right:8px;transform:translateY(-50%)}
.plot .x{top:100%;margin-top:5px;transform:translateX(-50%)}
.plot .v{transform:translate(-50%,-50%);color:var(--ink);pointer-events:none}
.below{height:26px}
.grid{stroke:var(--line);stroke-width:1}
.zero{stroke:var(--soft);stroke-width:1}
.equity{fill:none;stroke:var(--accent);stroke-width:1.8;stroke-linejoin:round}
.under{fill:var(--accent);fill-opacity:.1}
.hold{fill:none;stroke:var(--soft);stroke-width:1.2;stroke-dasharray:5 4;stroke-linejoin:round}
.fall{fill:var(--loss);fill-opacity:.22;stroke:var(--loss);stroke-width:1.2;stroke-linejoin:round}
.won{stroke:var(--gain);stroke-width:7;stroke-linecap:round}
.lost{stroke:var(--loss);stroke-width:7;stroke-linecap:round}
.hole{stroke:var(--card);stroke-width:3.5;stroke-linecap:round}
.bar-gain{fill:var(--gain)}.bar-loss{fill:var(--loss)}
.cell{stroke:var(--card);stroke-width:2}
.none{fill:var(--line);fill-opacity:.35;stroke:var(--card);stroke-width:2}
.best{fill:none;stroke:var(--ink);stroke-width:2.5}
.key{display:flex;flex-wrap:wrap;gap:4px 16px;color:var(--soft);font-size:.82rem;margin:0 0 12px}
.key i{display:inline-block;width:18px;height:0;border-top:2px solid var(--accent);
margin-right:6px;vertical-align:middle}
.key .dashed{border-top:2px dashed var(--soft)}
.key .dot{width:10px;height:10px;border:0;border-radius:50%;background:var(--gain)}
.key .ring{width:10px;height:10px;border:2.5px solid var(--loss);border-radius:50%}
.key .block{width:12px;height:10px;border:0;background:var(--loss);opacity:.5}
summary{cursor:pointer;font-weight:600}
summary+table{margin-top:12px;font-size:.85rem}
ul{margin:0;padding-left:20px}
@media (max-width:720px){.kpis{grid-template-columns:repeat(2,1fr)}.groups{columns:1}.plot{margin-left:48px}
.plot .odd{display:none}main{padding:16px 10px 32px}.card{padding:14px 12px}}
@media print{body{background:#fff}.card,.kpi{break-inside:avoid}}
"""
