"""How the HTML report looks."""

CSS = """
:root{--ink:#20262b;--soft:#667078;--line:#dfe4e2;--paper:#fff;--back:#f3f5f3;--accent:#24805a}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1040px;margin:0 auto;padding:28px 20px 60px}
header{border-left:6px solid var(--accent);padding-left:16px;margin-bottom:22px}
h1{font-size:26px;margin:0;overflow-wrap:anywhere}
header p{margin:2px 0 0;color:var(--soft);overflow-wrap:anywhere}
section{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:18px 22px;margin-bottom:18px}
h2{font-size:18px;margin:0 0 4px}
p{margin:8px 0}
.note{color:var(--soft);margin:0 0 12px;font-size:13.5px}
.cards{display:flex;flex-wrap:wrap;gap:12px}
.cards div{flex:1 1 130px;background:var(--back);border-radius:8px;padding:12px 14px}
.cards b{display:block;font-size:24px;font-weight:650;font-variant-numeric:tabular-nums;white-space:nowrap}
.cards span{color:var(--soft);font-size:13px}
.warnings{margin:12px 0 0;padding:10px 14px 10px 32px;background:#fff6e3;border:1px solid #f0dcae;border-radius:8px}
.warnings li{margin:3px 0}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;margin:4px 0 10px}
th,td{padding:6px 10px;text-align:right;border-bottom:1px solid var(--line)}
th{font-weight:550}
thead th{color:var(--soft);font-size:13px;border-bottom:2px solid var(--line);vertical-align:bottom}
th:first-child{text-align:left}
tbody tr:last-child>*{border-bottom:0}
td{white-space:nowrap}
thead th:not(:first-child){max-width:130px}
.heat td{min-width:72px;border:2px solid var(--paper);border-radius:4px}
.heat td small{display:block;font-size:11.5px;opacity:.75}
.heat td.light{color:#fff}
.heat td.sum{color:var(--soft)}
.facts th{white-space:nowrap;vertical-align:top;color:var(--soft)}
.facts td{text-align:left;white-space:normal;overflow-wrap:anywhere}
.swatch{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:8px;vertical-align:-1px;
border:1px solid rgba(0,0,0,.18)}
.pictures{display:flex;gap:14px;flex-wrap:wrap}
figure{margin:8px 0;flex:1 1 260px;min-width:0}
figure svg{width:100%;height:auto;display:block;border:1px solid var(--line);border-radius:4px}
figure image{image-rendering:auto}
figcaption{color:var(--soft);font-size:13px;margin-top:4px}
.strip{flex-wrap:nowrap;gap:8px;margin-bottom:14px}
.strip figure{flex:1 1 0;margin:2px 0}
.strip image{image-rendering:pixelated}
h3{font-size:15px;font-weight:600;margin:14px 0 0;overflow-wrap:anywhere}
h3+.note{margin:0 0 4px}
.scale .swatch{margin:0;border-radius:0;border-width:1px 0}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px}
.chart{width:100%;max-width:820px;height:auto;display:block;margin:8px 0}
.chart text{font-size:12.5px;fill:var(--ink)}
.chart .num{font-size:11.5px;font-variant-numeric:tabular-nums;fill:var(--soft)}
.chart .tick{font-size:11px;fill:var(--soft);text-anchor:middle}
.chart .grid{stroke:var(--line)}
.chart .whisker{stroke:var(--ink);stroke-width:1.6;fill:none}
.chart .dot{stroke:var(--ink);stroke-width:1.2}
circle.right{fill:#20262b;fill-opacity:.75;stroke:#fff;stroke-width:.8}
circle.wrong{fill:#ce3434;stroke:#fff;stroke-width:1}
@media print{body{background:#fff}section{break-inside:avoid;border-color:#bbb}}
"""
"""Style sheet of the report; system fonts only."""
