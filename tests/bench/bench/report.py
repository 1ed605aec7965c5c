"""The table, the JSON and the chart."""
import json
import statistics


def spread(values):
    """Of one run there is none to tell."""
    if len(values) < 2:
        return "-"
    return f"{(max(values) - min(values)) / statistics.median(values):.0%}"


def race_lines(rates, missing, drained, names):
    """`to seed`: to the seed's worker on a classic queue, whichever this one is on."""
    yield (f"{'':34}{'kind':>9}{'drained':>9}{'median/s':>11}{'spread':>8}{'to bare':>9}"
           f"{'to seed':>9}")
    seed = statistics.median(rates["classic"][names["seed"]]) \
        if names["seed"] in rates.get("classic", {}) else None
    for kind, found in rates.items():
        bare = statistics.median(found[names["bare"]]) if names["bare"] in found else None
        for name, values in found.items():
            rate = statistics.median(values)
            ratio = f"{rate / bare:9.2f}" if bare else " " * 9
            times = f"{rate / seed:8.1f}x" if seed else ""
            yield (f"{name:34}{kind:>9}{drained[name]:9,}{rate:11,.0f}{spread(values):>8}{ratio}"
                   f"{times}")
        for name, why in missing[kind].items():
            yield f"{name:34}{kind:>9}  not run: {why}"


def goal_lines(goals):
    for what, goal, found in goals:
        reached = found >= goal if goal > 0 else found <= -goal
        yield (f"{what}: {found:,.2f} ({'at least' if goal > 0 else 'at most'} {abs(goal):,}): "
               f"{'reached' if reached else 'missed'}")


def scene_lines(scenes):
    for name, figures in scenes.items():
        yield name
        for what, value in figures.items():
            text = f"{value:,.2f}" if isinstance(value, float) else \
                f"{value:,}" if isinstance(value, int) else value
            yield f"    {what:44}{text:>12}"


def point(at, rate):
    return f"    {at if isinstance(at, str) else format(at, ','):>12}{rate:>14,.0f}/s"


def series_lines(series):
    for name, points in series.items():
        yield name
        yield from (point(at, rate) for at, rate in points)


def write_json(path, document):
    path.write_text(json.dumps(document, indent=2) + "\n")


BAR_HEIGHT, LEFT, WIDTH, ROW = 16, 250, 560, 22
COLOURS = {"quorum": "#2b6cb0", "classic": "#dd8a2b"}


def write_chart(path, rates):
    """Horizontal bars, the medians, one colour for each type of queue."""
    names = list(dict.fromkeys(name for found in rates.values() for name in found))
    most = max((statistics.median(values) for found in rates.values() for values in found.values()),
               default=0)
    rows, y = [], 40
    for name in names:
        rows.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{name}</text>')
        for kind, found in rates.items():
            if name not in found:
                continue
            rate = statistics.median(found[name])
            width = max(1, rate / most * WIDTH)
            rows.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}" '
                        f'fill="{COLOURS[kind]}"/>')
            rows.append(f'<text x="{LEFT + width + 6:.1f}" y="{y + 13}">{rate:,.0f}</text>')
            y += ROW
        y += 8
    legend = "".join(
        f'<rect x="{LEFT + 110 * i}" y="12" width="12" height="12" fill="{colour}"/>'
        f'<text x="{LEFT + 110 * i + 18}" y="23">{kind}</text>'
        for i, (kind, colour) in enumerate(COLOURS.items()) if kind in rates)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 100}" height="{y + 10}" '
        'font-family="sans-serif" font-size="13">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="8" y="23">events a second, drained</text>{legend}\n'
        + "\n".join(rows) + "\n</svg>\n")
