"""What the worker is to reach, as far as a run has measured it: [what, goal, found], where found is
to be the goal at least, or, with a negative goal, at most that without its sign."""
import statistics

from bench.contenders import main_names


def median(rates, kind, name):
    found = rates.get(kind, {}).get(name)
    return statistics.median(found) if found else None


def of_race(rates):
    """[what, goal, ratio] of those that can be computed."""
    name = main_names()
    rows = []
    for kind, goal in (("quorum", 0.5), ("classic", 0.85)):
        bare = median(rates, kind, name["bare"])
        for one in (name["ours"], name["ours"] + ", prefetch 2000"):
            ours = median(rates, kind, one)
            if bare and ours:
                rows.append([f"{one}, to the bare consumer, {kind}", goal, ours / bare])
    ours = median(rates, "quorum", name["ours"])
    for other, goal in (("seed", 25), ("go", 10)):
        theirs = median(rates, "classic", name[other])
        if ours and theirs:
            rows.append([f"leveret on a quorum queue to {name[other]} on a classic one", goal,
                         ours / theirs])
    return rows


def of_scenes(found):
    def figure(scene, name):
        return found.get(scene, {}).get(name)

    def p99(who):
        return figure(f"latency at 200/s: {who} (ms)", "p99")

    rows = [
        ["a thousand waits of 100 ms, events/s", 8000,
         figure("a thousand waits of 100 ms", "events/s")],
        ["a thousand waits of 100 ms, resident MiB", -64,
         figure("a thousand waits of 100 ms", "resident MiB")],
        ["a lane at rest, resident MiB", -15, figure("start and memory", "resident MiB at rest")],
        *(["a ledger of ten million rows to an empty one, UUID" + ids, 0.7,
           figure("a full ledger", "ratio, UUID" + ids)] for ids in ("v4", "v7")),
    ]
    ours, seeds = p99("leveret, quorum"), p99("Node, prefetch 10, classic")
    if ours and seeds:
        rows.append(["p99 from publish to ack at 200/s, to the seed's", -0.5, ours / seeds])
    return [row for row in rows if row[2] is not None]
