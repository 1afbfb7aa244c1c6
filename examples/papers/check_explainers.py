"""Whether to believe an explanation: does it depend on the network, does deletion bear it out, does the seed change it.

The networks and windows are those of ``compare_explainers.py``: 8 s of MIT-BIH, DS1 trains, recognised windows of DS2
are explained. ``--part`` picks one or several of

- randomisation: rank correlation with the maps of networks whose weights are drawn anew, from the head down, beside
  that of two wholly random ones;
- labels: the same with networks that have learned permuted labels;
- deletion: the probability of the class while chunks of 20 ms are replaced, most and least relevant first;
- seeds: rank correlation between networks that differ by the seed of their training;
- agreement: rank correlation between the explainers.

Each prints its page; ``--out`` gets it as ``<part>.md``, and pictures. ``--work`` keeps networks and maps: with the one
of ``compare_explainers.py`` nothing is trained again, but for the labels. ``--quick`` takes about a minute. In full a
part takes up to a quarter of an hour of one core, without the training.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _checks import MEASURES, Networks, attempt, cell, mean, scored, taken
from _explainers import BY_SIZE, CONTROLS, DEFAULT, EXPLAINERS, GUIDED, control, relevance
from _protocol import CLASSES, draw
from _study import parser, table, versions
from sklearn.utils import Bunch

from skecg.explain import explainer_agreement, seed_consistency, weight_randomisation
from skecg.metrics import perturbation_curves

WINDOWS = {"randomisation": 12, "labels": 24, "deletion": 20, "seeds": 40, "agreement": 24}
QUICK_WINDOWS = {"randomisation": 4, "labels": 6, "deletion": 6, "seeds": 8, "agreement": 6}
QUICK = (DEFAULT, "Grad-CAM", "saliency", "integrated gradients", "guided backprop", GUIDED)
DRAWN = tuple(dict.fromkeys((DEFAULT, "Grad-CAM", "guided backprop", GUIDED, "integrated gradients")))
# The cost of twenty-five network passes a window and more: compared at three depths, all others at every one.
SLOW = ("occlusion", "learned mask", "SmoothGrad", "expected gradients", "DeepLift")
TOLERANCE, CEILING = 0.1, 0.9  # of the excess over the floor; of the correlation with a random network at all
GOAL = 0.65  # of the rank correlation between seeds
FEW = 10  # patients below which there is no interval
CHUNK = 0.02  # s
NORMAL = "a normal window of another patient"


# ------------------------------------------------------------------------------------------------------ randomisation


def over_floor(result: Mapping[str, Any], measure: str) -> tuple[np.ndarray, np.ndarray]:
    """Return by window the mean correlation with random networks, and that between two of them."""
    return mean(result[f"final_{measure}"], axis=0), mean(result[f"floor_{measure}"], axis=0)


def floor_verdict(result: Mapping[str, Any], groups: np.ndarray, kept: Any = slice(None)) -> tuple[bool, str]:
    """Tell whether a result is within the tolerance of its floor and under the ceiling, and say it in words."""
    words, clear, few = [], True, False
    for measure in MEASURES:
        final, floor = (values[kept] for values in over_floor(result, measure))
        excess = scored(final - floor, groups[kept])
        if excess is None:
            return False, "no map"
        few |= excess.n_groups < FEW
        if excess.value > TOLERANCE:
            words.append(f"{measure} above the floor")
            clear &= bool(excess.low > TOLERANCE)
        else:
            clear &= bool(excess.high <= TOLERANCE)
        if mean(final) > CEILING:
            words.append(f"{measure} above {CEILING:g}, as if there were no network")
    doubt = "" if clear else " (too few patients for an interval)" if few else " (the interval says both)"
    return not words, f"{'no: ' + ', '.join(words) if words else 'yes'}{doubt}"


def floor_table(found: dict[str, Bunch], groups: np.ndarray, what: str) -> str:
    """Return the table of correlations with random networks beside their floor."""
    lines = []
    for name, result in found.items():
        line = [name]
        for measure in MEASURES:
            final, floor = over_floor(result, measure)
            excess = cell(scored(final - floor, groups), "+", result.get(f"seeds_{measure}", ()))
            line += [f"{mean(final):.2f}", f"{mean(floor):.2f}", excess]
        lines.append([*line, result.verdict])
    columns = [f"{measure}: {word}" for measure in MEASURES for word in (what, "floor", "excess")]
    return table(["explainer", *columns, f"within {TOLERANCE:g} of the floor"], lines)


def pooled(results: Sequence[Bunch]) -> Bunch:
    """Return the results of several seeds as one: their windows side by side."""
    out = Bunch(depths=results[0].depths, mode=results[0].mode)
    for measure in MEASURES:
        for key in (measure, f"final_{measure}", f"floor_{measure}"):
            out[key] = np.concatenate([result[key] for result in results], axis=1)
        out[f"seeds_{measure}"] = [result[f"excess_{measure}"] for result in results]
    return out


def randomisation(nets: Networks, args: argparse.Namespace) -> str:
    """Return the page of weight randomisation; draw its picture."""
    ecg, n_draws = nets.ecg, 2 if args.quick else 3
    rows = {seed: nets.explained([seed], args.n["randomisation"]) for seed in args.seeds}
    every = np.concatenate(list(rows.values()))
    groups, found = ecg.groups[every], {}
    for name in args.explainers:
        results = []
        for seed, own in rows.items():
            result = attempt(
                name,
                weight_randomisation,
                EXPLAINERS[name](nets(seed), nets.seconds),
                ecg.data[own],
                target=ecg.target[own],
                depths=3 if name in SLOW else "all",
                n_draws=n_draws,
                random_state=seed,
            )
            if isinstance(result, str):
                found[name] = result
                break
            results.append(result)
        else:
            found[name] = pooled(results)
            found[name].passes, found[name].verdict = floor_verdict(found[name], groups)
            print(f"randomisation: {name}: {found[name].verdict}", flush=True)
    own, refused = taken(found)
    intro = (
        f"{nets.named(args.seeds)}. Weights are drawn anew from the head down, {n_draws} times a seed; rank "
        "correlation of the maps with those of the trained network, beside the floor, that between the maps of two "
        f"networks whose weights are all random. {nets.told(every)}. In brackets the 95 % interval over patients "
        f"(below {FEW} patients their values instead) and each seed. The last column asks whether the excess is at "
        f"most {TOLERANCE:g}, signed and absolute, and the correlation at most {CEILING:g}. A floor that is high "
        "itself says that the ECG makes the maps, more than the network."
    )
    fails = [name for name, result in own.items() if not result.passes]
    parts = [intro, floor_table(own, groups, "all random"), f"Those that fail: {', '.join(fails) or 'none'}."]
    if DEFAULT in own:
        again = nets.without_largest(every, lambda kept: floor_verdict(own[DEFAULT], groups, kept)[1], DEFAULT)
        parts.append(f"The default, {DEFAULT}: {own[DEFAULT].verdict}. {again}".strip())
    parts += [*by_depth(own), refused]
    shown = {name: own[name] for name in DRAWN if name in own}
    if args.out is not None and shown:
        draw_floors(shown, "from_weight_randomisation", args.out / "randomisation.png")
    return "\n\n".join(filter(None, parts))


def by_depth(found: dict[str, Bunch]) -> list[str]:
    """Return what is left of the maps while the lower layers keep their weights, and what the guided methods do."""
    if not found:
        return []
    depths = max((result.depths for result in found.values()), key=len)
    third = [-(-len(depths) * (k + 1) // 3) - 1 for k in range(3)]
    shown = sorted({0, min(2, len(depths) - 1), max(0, len(depths) - 2), *third})
    lines = []
    for name, result in found.items():
        at = {depth: i for i, depth in enumerate(result.depths)}
        pairs = [tuple(mean(result[m][at[depths[i]]]) for m in MEASURES) if depths[i] in at else () for i in shown]
        lines.append([name, *(f"{pair[0]:.2f} / {pair[1]:.2f}" if pair else "" for pair in pairs)])
    header = ["explainer", *(f"{i + 1} of {len(depths)} layers, to {depths[i]}" for i in shown)]
    told = []
    for name in BY_SIZE:
        if name in found:
            verdict = "passes by this measure" if found[name].passes else "fails"
            told.append(f"{name} {verdict}: {_at(found[name], shown[:-1])}")
    if told and DEFAULT in found:
        told.append(f"{DEFAULT} beside them: {_at(found[DEFAULT], shown[:-1])}")
    guided = f"The guided methods, said to fail in the literature (absolute): {'. '.join(told)}." if told else ""
    return ["What is left where only the layers from the head down are random:", table(header, lines), guided]


def _at(result: Bunch, steps: Sequence[int]) -> str:
    some = ", ".join(f"{mean(result.absolute[i]):.2f} with {i + 1}" for i in steps)
    last, floor = mean(result.final_absolute), mean(result.floor_absolute)
    return f"{some} and {last:.2f} with all layers random, floor {floor:.2f}"


def labels(nets: Networks, args: argparse.Namespace) -> str:
    """Return the page of label randomisation; draw its picture.

    ``skecg.explain.label_randomisation`` trains for one explainer. Here several share the trainings, and the maps are
    compared by ``seed_consistency``: the pairs of the three networks are what is asked for. The windows trained on are
    few, so that permuted labels can be learned at all.
    """
    ecg, seed, rng = nets.ecg, args.seeds[0], np.random.RandomState(args.seeds[0])
    most, epochs = (30, 4) if args.quick else (120, 40)
    own = [nets.train[ecg.target[nets.train] == label] for label in np.unique(ecg.target[nets.train])]
    rows = np.concatenate([draw(of_label, ecg.groups, most, rng) for of_label in own])
    truth = ecg.target[rows]
    made, scores = [nets.fit(ecg, rows, seed, epochs=epochs)], []
    for k in (1, 2):
        other = Bunch(**{**ecg, "target": ecg.target.copy()})
        other.target[rows] = rng.permutation(truth)
        made.append(nets.fit(other, rows, seed + 100 * k, epochs=epochs))
        scores.append(float((made[-1].predict(ecg.data[rows]) == other.target[rows]).mean()))
    chance, right = float(np.unique(truth, return_counts=True)[1].max() / len(rows)), made[0].predict(ecg.data[rows])
    rows = draw(rows[np.isin(truth, CLASSES)], ecg.groups, args.n["labels"], rng)
    found: dict[str, Any] = {}
    for name in [name for name in DRAWN if name in args.explainers]:
        explainer = EXPLAINERS[name](made[0], nets.seconds)
        result = attempt(name, seed_consistency, explainer, ecg.data[rows], estimators=made, target=ecg.target[rows])
        if not isinstance(result, str):  # pairs: the network and each of the others, then these two
            values = {key: result[m][:2] for m in MEASURES for key in (m, f"final_{m}")}
            floors = {f"floor_{m}": result[m][2:] for m in MEASURES}
            result = Bunch(**values, **floors, permuted_score=np.array(scores), chance=chance)
            result.passes, result.verdict = floor_verdict(result, ecg.groups[rows])
        found[name] = result
    kept, refused = taken(found)
    intro = (
        f"{nets.named([seed])}, trained {epochs} epochs on {len(truth)} windows of DS1, once with their labels "
        f"(accuracy on them {(right == truth).mean():.2f}) and twice with permuted ones ({scores[0]:.2f} and "
        f"{scores[1]:.2f}; the commonest label {chance:.2f}). Rank correlation between the maps of windows trained on: "
        f"{nets.told(rows)}; the floor is that between the two networks with permuted labels. Intervals and last "
        "column as for the weights."
    )
    if args.out is not None and kept:
        draw_floors(kept, "from_label_randomisation", args.out / "labels.png")
    return "\n\n".join(filter(None, [intro, floor_table(kept, ecg.groups[rows], "permuted"), refused]))


def draw_floors(results: dict[str, Bunch], how: str, path: Path) -> None:
    """Draw the absolute and the signed correlations side by side."""
    import matplotlib.pyplot as plt

    from skecg.plotting import SanityDisplay

    fig, axes = plt.subplots(1, 2, figsize=(14, 5.2), layout="constrained")
    for ax, measure in zip(axes, MEASURES[::-1], strict=True):
        getattr(SanityDisplay, how)(results, measure=measure, ax=ax)
    fig.savefig(path, dpi=100)
    plt.close(fig)


# ----------------------------------------------------------------------------------------------------------- deletion

GAINS = (
    "most first: random less it",
    "most first: abs(x) less it",
    "least first: it less random",
    "least first: it less abs(x)",
)


def normal_windows(nets: Networks, seed: int, rows: np.ndarray) -> np.ndarray:
    """Return for each window one of another patient that the network rightly takes for N."""
    ecg, rng, clf = nets.ecg, np.random.RandomState(seed), nets(seed)
    pool = rng.permutation(nets.tested[ecg.target[nets.tested] == "N"])[:300]
    pool = pool[clf.predict(ecg.data[pool]) == "N"] if len(pool) else pool
    out = []
    for group in ecg.groups[rows].tolist():
        others = pool[ecg.groups[pool] != group]
        if not len(others):
            raise ValueError(f"no recognised window of N is of another patient than {group}: there is no replacement")
        out.append(rng.choice(others))
    return np.array(out)


def gains(curves: Bunch, base: Bunch) -> np.ndarray:
    """Return (4, n_samples) how much better an order is than random ones and that of abs(x), in the order of GAINS.

    ``base`` are the curves of abs(x) as relevance.
    """
    return np.stack(
        [
            base.area_random - curves.area_most,
            base.area_most - curves.area_most,
            curves.area_least - base.area_random,
            curves.area_least - base.area_least,
        ]
    )


def gain_verdict(found: Sequence[Bunch | None]) -> str:
    """Say whether all gains are clear of zero."""
    if any(one is None or one.n_groups < FEW for one in found):
        return "undecided"
    if all(one.low > 0 for one in found):
        return "yes"
    return "no" if any(one.value <= 0 or one.high < 0 for one in found) else "not clear"


def deletion(nets: Networks, args: argparse.Namespace) -> str:
    """Return the page of deletion curves; draw its picture."""
    ecg, rows, refused = nets.ecg, [], ""
    found: dict[tuple[str, str], list] = {}
    kept: dict[tuple[str, str], list] = {}
    for seed in args.seeds:
        clf = nets(seed)
        rows.append(nets.explained([seed], args.n["deletion"]))
        X, target = ecg.data[rows[-1]], ecg.target[rows[-1]]
        x = clf[:-1].transform(X)
        normal = clf[:-1].transform(ecg.data[normal_windows(nets, seed, rows[-1])])
        keep = None if args.work is None else args.work / "maps"
        maps = {name: relevance(name, clf, X, target, nets.seconds, keep) for name in args.explainers}
        maps, refused = taken(maps | {name: control(name, x, seed) for name in CONTROLS})
        for fill, replacement in {"bridge": "bridge", "isoelectric": "isoelectric", NORMAL: normal}.items():
            settings = {"target": target, "chunk": CHUNK, "replacement": replacement, "random_state": seed}
            settings["n_points"] = 9 if args.quick else 16
            base = perturbation_curves(clf[-1], x, np.abs(x), n_random=5, **settings)
            for name, R in maps.items():
                curves = perturbation_curves(clf[-1], x, R, n_random=1, **settings)  # random orders are those of base
                curves.update(random=base.random, area_random=base.area_random)
                found.setdefault((name, fill), []).append(gains(curves, base))
                if name in (DEFAULT, GUIDED):
                    kept.setdefault((name, fill), []).append(curves)
            print(f"deletion: seed {seed}, {fill}", flush=True)
    every = np.concatenate(rows)
    groups, values = ecg.groups[every], {key: np.concatenate(parts, axis=1) for key, parts in found.items()}
    names, fills = (list(dict.fromkeys(key[i] for key in values)) for i in range(2))
    names.sort(key=lambda name: -np.mean([values[name, fill] for fill in fills]))

    def verdicts(name: str, some: Any = slice(None)) -> list[str]:
        """Return the verdict on the most relevant first, on the least relevant first, and on both."""
        all_four = [[scored(gain[some], groups[some]) for gain in values[name, fill]] for fill in fills]
        return [gain_verdict([one for four in all_four for one in four[a:b]]) for a, b in ((0, 2), (2, 4), (0, 4))]

    marked = {name: f"*{name}*" if name in CONTROLS else name for name in names}
    first = table(
        ["explainer", "beats both, most first", "beats both, least first", "beats both, both ways"],
        [[marked[name], *verdicts(name)] for name in names],
    )
    parts = [
        f"{nets.named(args.seeds)}. {nets.told(every)}. The probability of the class while chunks of "
        f"{CHUNK * 1000:g} ms are replaced by a bridge, by the isoelectric line, or by the same samples of a normal "
        "window of another patient, in the order of their relevance. Differences of the areas under the curves, more "
        f"is better; in brackets the 95 % interval over patients (below {FEW} patients their values instead, and no "
        'verdict). "Beats both": on every replacement the intervals of the differences from random orders and from '
        "the order of abs(x) are clear of zero; not clear: all differences are above zero, but not all intervals. "
        "*Controls* know nothing of the network.",
        first,
    ]
    if DEFAULT in names:
        again = nets.without_largest(every, lambda some: ", ".join(verdicts(DEFAULT, some)), DEFAULT)
        parts.append(f"The default, {DEFAULT}: {', '.join(verdicts(DEFAULT))}. {again}".strip())
    for fill in fills:
        lines = [[marked[n], *(cell(scored(gain, groups), "+") for gain in values[n, fill])] for n in names]
        parts += [f"Replaced by: {fill}.", table(["explainer", *GAINS], lines)]
    if args.out is not None and kept:
        draw_deletion({key: joined(curves) for key, curves in kept.items()}, fills, groups, args.out / "deletion.png")
    return "\n\n".join(filter(None, [*parts, refused]))


def joined(curves: Sequence[Bunch]) -> Bunch:
    """Return the curves of several seeds as one: their windows one after the other."""
    orders = [f"{kind}{order}" for kind in ("", "area_") for order in ("most", "least", "random", "absolute")]
    return Bunch(**{**curves[0], **{k: np.concatenate([one[k] for one in curves]) for k in (*orders, "degradation")}})


def draw_deletion(curves: dict[tuple[str, str], Bunch], fills: Sequence[str], groups: np.ndarray, path: Path) -> None:
    """Draw the curves of the default and of Guided Grad-CAM under each replacement."""
    import matplotlib.pyplot as plt

    from skecg.plotting import PerturbationDisplay

    names = list(dict.fromkeys(name for name, _ in curves))
    size = (6 * len(fills), 4.6 * len(names))
    fig, axes = plt.subplots(len(names), len(fills), figsize=size, layout="constrained", squeeze=False)
    for row, name in zip(axes, names, strict=True):
        for ax, fill in zip(row, fills, strict=True):
            PerturbationDisplay.from_curves(curves[name, fill], groups=groups, ax=ax, title=f"{name}: {fill}")
    fig.savefig(path, dpi=80)
    plt.close(fig)


# ------------------------------------------------------------------------------------------------ seeds and agreement


def goal_verdict(found: Bunch | None) -> str:
    """Say whether a mean rank correlation is above the goal."""
    if found is None:
        return "no map"
    if found.n_groups < FEW:
        doubt = " (too few patients for an interval)"
    else:
        doubt = " (the interval says both)" if found.low <= GOAL < found.high else ""
    return f"{'yes' if found.value > GOAL else 'no'}{doubt}"


def seeds(nets: Networks, args: argparse.Namespace) -> str:
    """Return the page of seeds; draw its picture."""
    ecg, rows = nets.ecg, nets.explained(args.all_seeds, args.n["seeds"])
    estimators, groups, found = [nets(seed) for seed in args.all_seeds], ecg.groups[rows], {}
    for name in args.explainers:
        explainer = EXPLAINERS[name](estimators[0], nets.seconds)
        target = ecg.target[rows]
        found[name] = attempt(name, seed_consistency, explainer, ecg.data[rows], estimators=estimators, target=target)
        print(f"seeds: {name}", flush=True)
    own, refused = taken(found)
    read = {name: "absolute" if name in BY_SIZE else "signed" for name in own}

    def verdict(name: str, kept: Any = slice(None)) -> str:
        return goal_verdict(scored(mean(own[name][read[name]], axis=0)[kept], groups[kept]))

    lines = []
    for name in sorted(own, key=lambda name: -mean(own[name][read[name]])):
        result, line = own[name], [name]
        for measure in MEASURES:
            pairs = result[f"mean_{measure}"]
            line += [cell(scored(mean(result[measure], axis=0), groups)), f"{pairs.min():.2f} to {pairs.max():.2f}"]
        lines.append([*line, f"{verdict(name)}, {read[name]}"])
    header = ["explainer", *(f"{m}{w}" for m in MEASURES for w in ("", ": pairs of seeds")), f"above {GOAL:g}"]
    parts = [
        f"{nets.named(args.all_seeds)}. {nets.told(rows)}, which all networks recognise. Rank correlation of the maps "
        f"of two networks, mean over pairs; in brackets the 95 % interval over patients (below {FEW} patients their "
        "values instead); beside it the least and the greatest of the pairs. The last column reads the relevance with "
        f"its sign, and the absolute one of {' and '.join(BY_SIZE)}.",
        table(header, lines),
    ]
    if DEFAULT in own:
        again = nets.without_largest(rows, lambda kept: verdict(DEFAULT, kept), DEFAULT)
        parts.append(f"The default, {DEFAULT}, above {GOAL:g}: {verdict(DEFAULT)}. {again}".strip())
    return "\n\n".join(filter(None, [*parts, refused]))


def agreement(nets: Networks, args: argparse.Namespace) -> str:
    """Return the page of agreement between explainers; draw its picture."""
    ecg, seed = nets.ecg, args.seeds[0]
    rows, clf = nets.explained([seed], args.n["agreement"]), nets(seed)
    X, target = ecg.data[rows], ecg.target[rows]
    explainers = {name: EXPLAINERS[name](clf, nets.seconds) for name in args.explainers}
    tried = {name: attempt(name, one.explain, X[:1], target=target[:1]) for name, one in explainers.items()}
    own, refused = taken(tried)
    if len(own) < 2:
        return f"Agreement needs two explainers that take the network. {refused}".strip()
    result = attempt("agreement", explainer_agreement, {name: explainers[name] for name in own}, X, target=target)
    lines = [
        [name, *("-" if np.isnan(value) else f"{value:.2f}" for value in row)]
        for name, row in zip(result.names, result.mean_absolute, strict=True)
    ]
    apart = result.mean_absolute - 2 * np.eye(len(lines))  # a map agrees with itself
    best = [f"{name}: {result.names[int(np.nanargmax(row))]}" for name, row in zip(result.names, apart, strict=True)]
    parts = [
        f"{nets.named([seed])}. {nets.told(rows)}. Mean rank correlation of the absolute relevance between explainers: "
        "agreement is no proof, since methods share faults.",
        table(["", *result.names], lines),
        f"The nearest of each: {'; '.join(best)}.",
        refused,
    ]
    if args.out is not None:
        import matplotlib.pyplot as plt

        from skecg.plotting import SanityDisplay

        side = 3.2 + 0.5 * len(lines)
        fig, ax = plt.subplots(figsize=(side + 1, side), layout="constrained")
        SanityDisplay.from_agreement(result, ax=ax)
        fig.savefig(args.out / "agreement.png", dpi=100)
        plt.close(fig)
    return "\n\n".join(filter(None, parts))


PARTS = {
    "randomisation": randomisation,
    "labels": labels,
    "deletion": deletion,
    "seeds": seeds,
    "agreement": agreement,
}


def main() -> None:
    """Read the command line, train or take up the networks, print and write the pages."""
    args_parser = parser(__doc__)
    args_parser.add_argument("--part", nargs="+", choices=[*PARTS, "all"], default=["all"])
    args_parser.add_argument("--network", choices=("ResNet1d", "ECGNet"), default="ResNet1d")
    args_parser.add_argument("--windows", type=int, default=None, help="windows a seed; without it, by part")
    args_parser.add_argument("--explainers", nargs="+", choices=list(EXPLAINERS), default=None)
    args = args_parser.parse_args()
    args.all_seeds = args.seeds or ([0, 1] if args.quick else [0, 1, 2, 3, 4])
    args.seeds = args.seeds or args.all_seeds[:3]
    args.explainers = args.explainers or list(QUICK if args.quick else EXPLAINERS)
    by_part = QUICK_WINDOWS if args.quick else WINDOWS
    args.n = {part: args.windows or n for part, n in by_part.items()}
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    nets = Networks(args)
    for part in PARTS if "all" in args.part else args.part:
        page = f"{PARTS[part](nets, args)}\n\n{versions()}."
        print(f"\n{page}\n", flush=True)
        if args.out is not None:
            (args.out / f"{part}.md").write_text(page + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
