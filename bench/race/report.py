"""What was measured, as Markdown, JSON and a bar chart."""

import json
import math
import os

import models

NAMES = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "litert": "LiteRT",
    "tflitec": "TFLite (tflitec)",
    "mnn": "MNN",
    "ncnn": "ncnn",
    "tract": "tract",
    "rten": "rten",
    "kinglet": "Kinglet",
}

HEAD = """# Performance

Kinglet against other runtimes on one machine. Written by `{command}`; what is measured and how to read it is in
[bench/race]({up}bench/race/README.md).

* CPU: {cpu}, {cores} cores ({features}), Linux {kernel}
* {versions}
* {date}{quick}; {load} processes wanted to run in the five minutes before, on average
* turns for {seconds} s a row{resumed}

Milliseconds of one inference, medians. **Ratio** is the time of the fastest peer over Kinglet's: 1 is as fast, above 1 Kinglet is
ahead. A model in several forms is compared with the fastest peer in any of them. A dash is a peer that does not run the
model, or whose outputs are not ONNX Runtime's; the reasons are at the end. The numbers with their spread are in
[performance/race.json](performance/race.json).

![Ratios](performance/race.svg)
"""


def write(data, folder):
    """Writes `performance.md`, and beside it the numbers and the chart."""
    os.makedirs(os.path.join(folder, "performance"), exist_ok=True)
    # A run that was resumed has measured them in another order.
    data["rows"].sort(key=lambda row: (models.ORDER.index(row["model"]), row["form"]))
    compare(data["rows"])
    files = {"performance.md": markdown(data, folder), "performance/race.svg": chart(data["rows"])}
    files["performance/race.json"] = json.dumps(data, indent=1) + "\n"
    for name, text in files.items():
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)


def key(row):
    return row["model"], row["precision"], row["threads"], row["amx"]


def compare(rows):
    """Adds to each row the fastest peer, in any form of the model, and its ratio to Kinglet."""
    fastest = {}
    for row in rows:
        for peer, result in row["results"].items():
            if peer != "kinglet" and "ms" in result:
                fastest.setdefault(key(row), []).append((result["ms"], peer, row["form"]))
    for row in rows:
        own = row["results"].get("kinglet", {}).get("ms")
        if own and key(row) in fastest:
            ms, peer, form = min(fastest[key(row)])
            row["fastest"] = {"peer": peer, "form": form, "ms": ms}
            row["ratio"] = ms / own


def title(row):
    return f"{row['model']}, {row['form']}" if row["form"] else row["model"]


def counted(rows):
    """Rows with a ratio of a model: `relu-1` is a call and no model."""
    return [row for row in rows if "ratio" in row and row["model"] != "relu-1"]


def mean(ratios):
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def milliseconds(value):
    """Three digits that count."""
    if value is None:
        return "–"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def markdown(data, folder):
    machine = data["machine"]
    versions = [f"{NAMES[p]} {v}" for p, v in machine["versions"].items() if p in machine["peers"]]
    docs = os.path.basename(folder) == "docs"
    text = HEAD.format(
        command="bench/race/race.sh" + (" --quick" if machine["quick"] else ""),
        up="../" if docs else "../../../../",
        cpu=machine["cpu"],
        cores=machine["cores"],
        features=", ".join(machine["features"]),
        kernel=machine["kernel"],
        versions=", ".join(versions),
        date=machine["date"],
        load=machine["load"],
        seconds=machine["seconds"],
        resumed=", in several sittings: the processes and Kinglet's version are those of the last" if machine["resumed"] else "",
        quick=", a quick run" if machine["quick"] else "",
    )
    tables = sorted({(r["precision"], r["threads"], r["amx"]) for r in data["rows"]}, key=lambda t: (t[2] == "off", t))
    for precision, threads, amx in tables:
        rows = [r for r in data["rows"] if (r["precision"], r["threads"], r["amx"]) == (precision, threads, amx)]
        heading = f"{precision}, {threads} thread{'s' if threads > 1 else ''}"
        text += f"\n## {heading}{', AMX of the peers switched off' if amx == 'off' else ''}\n\n{table(rows)}"
    return text + reasons(data["rows"])


def table(rows):
    columns = [p for p in NAMES if any("ms" in r["results"].get(p, {}) for r in rows) or p == "kinglet"]
    text = "| model | " + " | ".join(NAMES[p] for p in columns) + " | ratio |\n"
    text += "| --- |" + " ---: |" * (len(columns) + 1) + "\n"
    for row in rows:
        cells = [milliseconds(row["results"].get(p, {}).get("ms")) for p in columns]
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else "–"
        text += f"| {title(row)} | {' | '.join(cells)} | {ratio} |\n"
    ratios = [row["ratio"] for row in counted(rows)]
    if ratios:
        text += f"\nGeometric mean of the ratios: **{mean(ratios):.2f}**, least {min(ratios):.2f}, most {max(ratios):.2f}.\n"
    return text


def reasons(rows):
    """Who did not run what; the same reason in several rows once."""
    found = {}
    for row in rows:
        for peer, result in row["results"].items():
            if "refused" in result:
                models = found.setdefault((peer, result["refused"]), [])
                name = f"{title(row)} ({row['precision']})"
                models += [name] if name not in models else []
    if not found:
        return ""
    text = "\n## Dashes\n\n| peer | why | models |\n| --- | --- | --- |\n"
    for (peer, reason), models in sorted(found.items()):
        reason = reason.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")
        text += f"| {NAMES[peer]} | {reason} | {', '.join(models)} |\n"
    return text


def chart(rows):
    """Bars of the ratios on a logarithmic scale, a group for each model."""
    rows = [row for row in counted(rows) if row["amx"] == "on"]
    series = sorted({(r["precision"], r["threads"]) for r in rows})
    colours = dict(zip(series, ["#1f5fa8", "#8fb8e0", "#b8561f", "#e8b48f"] * 4))
    groups = list(dict.fromkeys(title(row) for row in rows))
    exponents = [math.log2(row["ratio"]) for row in rows] or [0]
    low, high = math.floor(min(exponents + [-1])), math.ceil(max(exponents + [1]))
    left, width, bar, top = 190, 560, 9, 46
    x = lambda exponent: left + width * (exponent - low) / (high - low)
    parts, y = [], top
    for group in groups:
        mine = [row for s in series for row in rows if title(row) == group and (row["precision"], row["threads"]) == s]
        parts.append(f'<text x="{left - 8}" y="{y + bar * len(mine) / 2 + 4:.1f}" text-anchor="end">{group}</text>')
        for row in mine:
            end = x(math.log2(row["ratio"]))
            colour = colours[row["precision"], row["threads"]]
            begin, length = min(end, x(0)), abs(end - x(0))
            parts.append(f'<rect x="{begin:.1f}" y="{y}" width="{length:.1f}" height="{bar - 1}" fill="{colour}"/>')
            y += bar
        y += 8
    lines = []
    for exponent in range(low, high + 1):
        label = f"{2**exponent}" if exponent >= 0 else f"1/{2**-exponent}"
        stroke = "#444" if exponent == 0 else "#ddd"
        lines.append(f'<line x1="{x(exponent):.1f}" y1="{top - 6}" x2="{x(exponent):.1f}" y2="{y}" stroke="{stroke}"/>')
        lines.append(f'<text x="{x(exponent):.1f}" y="{top - 10}" text-anchor="middle">{label}</text>')
    for i, (precision, threads) in enumerate(series):
        at = left + 130 * i
        name = f"{precision}, {threads} thread{'s' if threads > 1 else ''}"
        lines.append(f'<rect x="{at}" y="8" width="10" height="10" fill="{colours[precision, threads]}"/>')
        lines.append(f'<text x="{at + 15}" y="17">{name}</text>')
    size = f'width="{left + width + 30}" height="{y + 10}"'
    caption = "Time of the fastest peer over Kinglet's: right of 1 Kinglet is ahead"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">\n'
        f'<title>{caption}</title>\n<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(lines + parts) + "\n</svg>\n"
    )
