#include "adatape/analysis/page.h"

#include <strings.h>

#include <cstring>

#include "adatape/analysis/html.h"
#include "adatape/core/check.h"

namespace adatape {
namespace {

constexpr const char* kPlotlyPlace = "<!-- plotly.js -->";  // escaped titles hold no such text

constexpr const char* kStyle = R"css(
:root { --ink: #1d232b; --soft: #5b6572; --line: #e3e7ec; --pale: #f6f8fa; --accent: #2563eb; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 40px 28px 96px; }
h1 { font-size: 30px; font-weight: 600; letter-spacing: -0.01em; margin: 0 0 6px; }
h2 { font-size: 21px; font-weight: 600; margin: 56px 0 8px; padding-top: 20px; border-top: 1px solid var(--line); }
h3 { font-size: 16px; font-weight: 600; margin: 28px 0 4px; }
p { margin: 6px 0 12px; max-width: 78ch; }
.soft, figcaption, dd { color: var(--soft); }
.scroll { overflow-x: auto; margin: 16px 0; }
.tall { max-height: 420px; overflow-y: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; width: 100%; }
.tall table { width: auto; min-width: 60%; }
th, td { text-align: left; padding: 8px 14px 8px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--soft); white-space: nowrap; border-bottom: 1px solid #c5ccd6; }
th.number, td.number { text-align: right; padding-left: 14px; white-space: nowrap; }
td.name { font-weight: 600; white-space: nowrap; }
tr.first td { border-bottom: none; padding-bottom: 0; }
td.wide { color: var(--soft); padding: 0 0 10px 18px; font-size: 13.5px; }
td.wide span { display: inline-block; max-width: 110ch; }
.tall th { position: sticky; top: 0; background: #fff; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 8px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; font-size: 14px; margin: 12px 0; }
dt { font-weight: 600; }
dd { margin: 0; max-width: 90ch; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 8px 32px; }
.picture { display: grid; grid-template-columns: minmax(240px, 400px) 1fr; gap: 8px 24px; }
.grid > *, .picture > * { min-width: 0; }
@media (max-width: 800px) { .picture { grid-template-columns: 1fr; } main { padding: 24px 16px 64px; } }
figure { margin: 8px 0 16px; }
figcaption { font-size: 13px; line-height: 1.45; }
.figure { min-height: 60px; }
.note { padding: 10px 14px; background: #fff4e6; border-radius: 6px; font-size: 14px; }
details { margin: 8px 0; font-size: 14px; }
details.run { border: 1px solid var(--line); border-radius: 8px; padding: 8px 14px; }
summary { cursor: pointer; color: var(--accent); }
details.run > summary { color: var(--ink); font-weight: 600; }
pre { background: var(--pale); border-radius: 6px; padding: 12px 14px; overflow-x: auto; font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
select { font: inherit; font-size: 15px; padding: 4px 8px; border: 1px solid #c5ccd6; border-radius: 6px; background: #fff; }
.example { margin: 20px 0 28px; }
)css";

// Hidden figures have no width, so each is drawn when it is first visible.
constexpr const char* kScript = R"js(
const drawn = new Set();
function drawVisible() {
  for (const element of document.querySelectorAll('.figure')) {
    if (drawn.has(element) || element.offsetParent === null) continue;
    drawn.add(element);
    const figure = JSON.parse(document.getElementById(element.dataset.figure).textContent);
    Plotly.newPlot(element, figure.data, figure.layout, {
      responsive: true, displaylogo: false, displayModeBar: figure.layout.margin.t < 10 ? false : 'hover',
      modeBarButtons: [['toImage', 'resetScale2d']]});
  }
}
for (const details of document.querySelectorAll('details')) details.addEventListener('toggle', drawVisible);
const choice = document.getElementById('reading-choice');
if (choice !== null) {
  choice.addEventListener('change', () => {
    for (const section of document.querySelectorAll('.reading')) section.hidden = section.dataset.model !== choice.value;
    drawVisible();
  });
}
drawVisible();
)js";

// A script that may stand within a page: nothing in it ends its element or opens a comment. Scripts have either only in strings, where a
// backslash before / or ! changes nothing.
std::string embeddable(const std::string& script) {
  std::string text;
  text.reserve(script.size());
  for (size_t i = 0; i < script.size(); ++i) {
    text += script[i];
    if (script[i] != '<') continue;
    const auto follows = [&](const char* word) { return ::strncasecmp(script.c_str() + i + 1, word, std::strlen(word)) == 0; };
    if (follows("/script") || follows("!--")) text += '\\';
  }
  return text;
}

}  // namespace

void Page::figure(const nlohmann::ordered_json& figure, const std::string& caption) {
  const std::string id = concat("figure-", ++figures_);
  body_ += concat("<figure><div class=\"figure\" data-figure=\"", id, "\" style=\"height:", figure.at("layout").at("height").get<int>(),
                  "px\"></div><figcaption>", escape_html(caption), "</figcaption><script type=\"application/json\" id=\"", id, "\">",
                  script_json(figure), "</script></figure>\n");
}

std::string Page::document() const {
  return concat(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\">\n",
      "<title>", escape_html(title_), "</title>\n<style>", kStyle, "</style>\n", kPlotlyPlace, "\n</head>\n<body>\n<main>\n", body_,
      "</main>\n<script>", kScript, "</script>\n</body>\n</html>\n");
}

std::string self_contained(std::string page, const std::string& plotly) {
  const size_t place = page.find(kPlotlyPlace);
  ADATAPE_CHECK(place != std::string::npos, "page", "expected a page with a place for plotly.js, got one without");
  return page.replace(place, std::strlen(kPlotlyPlace), concat("<script>", embeddable(plotly), "</script>"));
}

}  // namespace adatape
