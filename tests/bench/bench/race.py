"""Everybody drains the same queue, in alternation, several times."""
from bench.contenders import all_contenders


def chosen(words):
    """The contenders whose name has one of them; all, if there are none."""
    return [contender for contender in all_contenders()
            if not words or any(word in contender.name for word in words)]


def race(site, progress, contenders, kinds, count, repeats):
    """{kind: {name: [rates]}}, and {kind: {name: why it is missing}}."""
    rates, missing = {kind: {} for kind in kinds}, {kind: {} for kind in kinds}
    runs = []
    for kind in kinds:
        for contender in contenders:
            if why := contender.missing(site, kind):
                missing[kind][contender.name] = why
            else:
                runs.append((kind, contender))
    progress.expect(repeats * len(runs))
    for _ in range(repeats):
        for kind, contender in runs:
            with progress.step(f"{contender.name}, {kind}"):
                rate = contender.run(site, kind, count)
            rates[kind].setdefault(contender.name, []).append(rate)
            progress.note(f"{rate:,.0f}/s")
    return rates, missing
