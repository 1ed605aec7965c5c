"""Everybody drains the same queue, in alternation, several times."""
import statistics

from bench.contenders import all_contenders, main_names


def race(site, progress, kinds, count, repeats, wanted):
    """{kind: {name: [rates]}}, and why somebody is missing."""
    contenders, missing = [], {}
    for contender in all_contenders():
        if wanted and not any(word in contender.name for word in wanted):
            continue
        if why := contender.missing(site):
            missing[contender.name] = why
        else:
            contenders.append(contender)
    rates = {kind: {} for kind in kinds}
    progress.expect(len(kinds) * repeats * len(contenders))
    for _ in range(repeats):
        for kind in kinds:
            for contender in contenders:
                with progress.step(f"{contender.name}, {kind}"):
                    rate = contender.run(site, kind, count)
                if rate is not None:
                    rates[kind].setdefault(contender.name, []).append(rate)
                    progress.note(f"{rate:,.0f}/s")
    return rates, missing


def median(rates, kind, name):
    found = rates.get(kind, {}).get(name)
    return statistics.median(found) if found else None


def goals(rates):
    """[what, goal, ratio] of those that can be computed."""
    name = main_names()
    rows = []
    for kind, goal in (("quorum", 0.5), ("classic", 0.85)):
        best = max((median(rates, kind, one) or 0
                    for one in (name["ours"], name["ours"] + ", prefetch 2000")), default=0)
        bare = median(rates, kind, name["bare"])
        if bare and best:
            rows.append([f"leveret (Lua, ledger) to the bare consumer, {kind}", goal, best / bare])
    ours = median(rates, "quorum", name["ours"])
    for other, goal in (("seed", 25), ("go", 10)):
        theirs = median(rates, "classic", name[other])
        if ours and theirs:
            rows.append([f"leveret on a quorum queue to {name[other]} on a classic one", goal,
                         ours / theirs])
    return rows
