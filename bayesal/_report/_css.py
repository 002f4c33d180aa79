"""The look of a report: one column of text, cards for pictures, both color schemes, and paper."""

CSS = """
:root{color-scheme:light dark;--paper:#fff;--ground:#f5f6f8;--ink:#1f2328;--soft:#5b636e;
--line:#dfe2e7;--accent:#0072b2;--better:#00704f;--better-bg:#dff3ec;--worse:#a34700;
--worse-bg:#fbe8dc;--open:#4c5560;--open-bg:#eceef1}
@media (prefers-color-scheme:dark){:root{--paper:#1b1e24;--ground:#121419;--ink:#e3e6ea;
--soft:#a1a8b3;--line:#343a44;--accent:#4fa8de;--better:#5fd6b1;--better-bg:#10362c;
--worse:#f3a06d;--worse-bg:#42250f;--open:#bcc3cd;--open-bg:#2a2f38}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--ground);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
overflow-wrap:anywhere}
main{max-width:1040px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 .25rem;letter-spacing:-.01em}
h2{font-size:1.2rem;line-height:1.3;margin:0 0 .75rem}
h3{font-size:1rem;line-height:1.35;margin:1.25rem 0 .4rem}
h2+h3{margin-top:0}
p{margin:0 0 .6rem;max-width:72ch}
.sub,.note,caption,figcaption{color:var(--soft)}
.note{font-size:.875rem;margin:.6rem 0 0}
nav{margin:.9rem 0 1.4rem;font-size:.9rem}
nav a{color:var(--accent);text-decoration:none;margin-right:1.1em;display:inline-block;
padding:.2em 0}
nav a:hover,nav a:focus{text-decoration:underline}
section{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:22px 24px;
margin:0 0 20px}
.headline{font-size:1.22rem;line-height:1.4;font-weight:600;max-width:60ch;margin-bottom:1rem}
.warning{border-left:4px solid var(--worse);background:var(--worse-bg);padding:.55rem .8rem;
border-radius:4px;max-width:none}
.finding{border-top:1px solid var(--line);padding:.75rem 0 .5rem}
.finding h3{margin:0 0 .2rem}
.finding ul{margin:0;padding-left:1.1em}
.finding li{margin:.15rem 0;max-width:76ch}
.chip{display:inline-block;font-size:.76rem;font-weight:600;line-height:1.3;border-radius:99px;
padding:.15em .7em;margin-left:.6em;vertical-align:.1em;background:var(--open-bg);color:var(--open)}
.chip.better{background:var(--better-bg);color:var(--better)}
.chip.worse{background:var(--worse-bg);color:var(--worse)}
.picture{margin:0 0 .5rem}
.picture img{display:block;width:100%;height:auto}
.picture figcaption{font-size:.875rem;margin-top:.3rem}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(280px,1fr));gap:18px}
.pair .picture img{max-width:520px}
.own img{max-width:100%;width:auto;border-radius:6px}
.scroll{overflow-x:auto;margin:.25rem 0 0;position:relative}
.scroll+.scroll{margin-top:1.4rem}
.scroll:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
table{border-collapse:collapse;font-size:.875rem;line-height:1.4;font-variant-numeric:tabular-nums;
min-width:100%;overflow-wrap:normal}
caption{text-align:left;padding:0 0 .5rem;font-size:.875rem}
caption span{position:sticky;left:0;display:inline-block;max-width:min(72ch,calc(100vw - 54px))}
th,td{text-align:left;padding:.38rem .7rem;border-bottom:1px solid var(--line);vertical-align:top}
thead th{font-weight:600;color:var(--soft);vertical-align:bottom;border-bottom-width:2px}
tbody th{font-weight:600;overflow-wrap:break-word;max-width:15em}
th:first-child{padding-left:0}
td:last-child,th:last-child{padding-right:0}
.number{text-align:right}
td.number{white-space:nowrap}
tbody tr:last-child>*{border-bottom:0}
.ends{color:var(--soft)}
.words td{overflow-wrap:anywhere;min-width:10em}
.thumbnails{display:flex;flex-wrap:wrap;gap:8px}
.thumbnails figure{margin:0;width:64px;text-align:center}
.thumbnails img{width:64px;height:64px;object-fit:contain;image-rendering:pixelated;display:block;
border:1px solid var(--line);border-radius:4px;background:#fff}
.thumbnails figcaption{font-size:.78rem;line-height:1.5}
details{margin-top:.2rem}
.scroll+details{margin-top:.8rem}
summary{cursor:pointer;color:var(--accent);font-size:.9rem;padding:.3rem 0}
footer{color:var(--soft);font-size:.85rem}
@media (max-width:600px){main{padding:20px 12px 40px}section{padding:16px 14px;border-radius:8px}
h1{font-size:1.4rem}.headline{font-size:1.08rem}
.chip{margin-left:.4em}.thumbnails figure,.thumbnails img{width:52px}.thumbnails img{height:52px}}
@media print{:root{--paper:#fff;--ground:#fff;--ink:#000;--soft:#444;--line:#bbb}
body{font-size:10.5pt}main{max-width:none;padding:0}nav,details{display:none}
section{border:0;border-radius:0;padding:0;margin:0 0 16pt}
h2{border-bottom:1px solid var(--line);padding-bottom:2pt}
h2,h3,caption{break-after:avoid}.picture,.finding,tr,.thumbnails{break-inside:avoid}
.thumbnails figure,.thumbnails img{width:44px}.thumbnails img{height:44px}
.scroll{overflow:visible}table{font-size:8pt}th,td{padding:.2rem .4rem}td.number{white-space:normal}
.chip{border:1px solid currentColor}thead{display:table-header-group}}
@page{margin:16mm 14mm}
"""
