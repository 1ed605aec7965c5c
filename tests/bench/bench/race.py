"""Everybody drains the same queue, in alternation, several times."""
from bench.contenders import all_contenders


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
