// How the page begins, and how it looks: light or dark, as the browser likes it.
#pragma once

#include <string_view>

namespace tcpvitals {

inline constexpr std::string_view kPageStyle = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="10">
<style>
:root { color-scheme: light dark; --bg: #f6f7f9; --card: #fff; --line: #e3e6ea; --text: #1c2127;
  --mute: #67707c; --accent: #2f6fde; --track: #e9ecf1; --good: #1c8a4e; --warn: #b26a00; --bad: #c9302c; }
@media (prefers-color-scheme: dark) { :root { --bg: #121519; --card: #1a1f25; --line: #2a3038;
  --text: #e4e8ed; --mute: #929ca9; --accent: #6aa1ff; --track: #272d36; --good: #4fc483; --warn: #f0ad4e;
  --bad: #ff7b72; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--bg); color: var(--text);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 40px }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 14px; margin-bottom: 20px }
h1 { font-size: 22px; margin: 0; letter-spacing: -.01em }
h2 { font-size: 14px; margin: 0 0 12px; font-weight: 600 }
h2 small { font-weight: 400; color: var(--mute); margin-left: 8px; font-size: 13px }
a { color: var(--accent); text-decoration: none } a:hover { text-decoration: underline }
nav { margin-left: auto; display: flex; gap: 16px }
.mute { color: var(--mute) }
.cards { display: grid; gap: 14px; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)) }
section, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px }
section { margin-top: 14px; overflow-x: auto }
.card .name { color: var(--mute); font-size: 13px }
.card .value { font-size: 30px; font-weight: 600; letter-spacing: -.02em; line-height: 1.25 }
.card .note { color: var(--mute); font-size: 13px }
.good { color: var(--good) } .warn { color: var(--warn) } .bad { color: var(--bad) }
.columns { display: grid; gap: 0 14px; grid-template-columns: repeat(auto-fit, minmax(330px, 1fr)) }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums }
th { text-align: right; font-weight: 500; font-size: 13px; color: var(--mute); padding: 0 0 6px 14px; white-space: nowrap }
td { text-align: right; padding: 5px 0 5px 14px; border-top: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child, .left { text-align: left; padding-left: 0 }
td.left, th.left { padding-left: 14px }
td.wrap { white-space: normal }
.bar { display: block; height: 8px; border-radius: 4px; background: var(--track); min-width: 90px }
.bar i { display: block; height: 100%; border-radius: 4px; background: var(--accent) }
td.fill { width: 45% }
.dot { display: inline-block; width: 8px; height: 8px; border-radius: 50%; margin-right: 8px; background: currentColor }
footer { margin-top: 18px; font-size: 13px; color: var(--mute) }
</style>
)";

}  // namespace tcpvitals
