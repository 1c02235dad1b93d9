"""Who said what, some turns ago: seq2seq, HRED and VHRED
=========================================================

Dialogues whose answers depend on earlier turns, made by a small grammar. Somebody tells a name and a colour, talks of
other things, and asks for one of them later; to small talk there are many good replies:

    my name is ann        pleased to meet you
    how is the weather    it is warm and the sun shines
    my colour is red      good to know
    what is my name       your name is ann

Three models of the same sizes see the same replies equally often. Seq2Seq reads the utterance before a reply, so it
can only guess names; HRED reads all turns; VHRED also draws a latent vector for each reply, so that its most probable
replies differ from draw to draw. Printed: the share of right answers on dialogues that were held out, by how long ago
the answer was told; and in ten replies to the same small talk the share of different words and pairs of words
(distinct-1 and distinct-2, Li et al. 2016), beside the share of replies that the grammar could have made. The ten are:
the most probable reply (beam search), asked for ten times, which for HRED is always the same; the ten best that one
beam search of HRED finds, and the best for each of ten draws of z of VHRED; ten that were drawn word by word. VHRED
varies more in the first way; in the others HRED varies as much, because here all replies are equally likely and short.

    python examples/dialogue.py            # about a minute; writes a plot
    python examples/dialogue.py --quick    # a few seconds
"""

import argparse
import json
from pathlib import Path
from time import perf_counter

import numpy as np

import fastrnn as fr

FACTS = {
    "name": ["ann", "ben", "cleo", "dan", "emma", "finn", "gina", "hugo"],
    "colour": ["red", "green", "blue", "white", "black", "pink", "brown", "grey"],
}
HEARD = ["pleased to meet you", "good to know", "i see", "how nice", "thank you for telling me"]
TALK = {
    "how are you": ("i am", "fine|very well|not so bad|a bit tired|a bit cold|happy",
                    "and you|thank you|as always|after a long day"),
    "how is the weather": ("it is", "cold|warm|hot|windy|cloudy|dark",
                           "and it rains|and the sun shines|as every day|so stay at home"),
    "what did you do": ("i", "read a book|went for a walk|cooked a soup|played chess|wrote a letter|sang a song",
                        "with a friend|all day|in the morning|in the park"),
    "what shall we do": ("let us", "go to the sea|see a film|visit a museum|build a boat|bake a cake|paint a wall",
                         "by train|tomorrow|with my sister|if it rains"),
}  # fmt: skip
REPLIES = {
    question: {f"{first} {one} {other}" for one in ones.split("|") for other in others.split("|")}
    for question, (first, ones, others) in TALK.items()
}


# %%
# The grammar
# -----------


def tell(fact, value):
    return f"my {fact} is {value}"


def answer(fact, value):
    return f"your {fact} is {value}"


def make(rng, most=2, values=8):
    """One dialogue, and where facts are asked for: (turn of the question, turn that told, fact, value)."""
    turns, told, asked = [], {}, []

    def small_talk():
        for _ in range(rng.integers(most + 1)):
            question = rng.choice(list(TALK))
            turns.extend([str(question), str(rng.choice(sorted(REPLIES[question])))])

    for fact in rng.permutation(list(FACTS)):
        value = str(rng.choice(FACTS[fact][:values]))
        told[str(fact)] = len(turns), value
        turns.extend([tell(fact, value), str(rng.choice(HEARD))])
        small_talk()
    for fact in rng.permutation(list(FACTS)):
        turn, value = told[str(fact)]
        asked.append((len(turns), turn, str(fact), value))
        turns.extend([f"what is my {fact}", answer(fact, value)])
    return turns, asked


def pairs(dialogues):
    """Each question and each reply, without what was before."""
    return [(turns[k], turns[k + 1]) for turns in dialogues for k in range(0, len(turns), 2)]


# %%
# What is measured
# ----------------


def accuracy(answers, asked):
    """Share of exact answers: of all, and by distance in turns."""
    right = np.array([reply == answer(*fact) for reply, (_, fact) in zip(answers, asked)])
    distance = np.array([d for d, _ in asked])
    return float(right.mean()), {int(d): float(right[distance == d].mean()) for d in np.unique(distance)}


def distinct(replies, n):
    """Different runs of n words, as a share of all, in the replies to one question; the mean over questions."""
    shares = []
    for group in replies:
        grams = [tuple(words[k : k + n]) for words in map(str.split, group) for k in range(len(words) - n + 1)]
        shares.append(len(set(grams)) / max(len(grams), 1))
    return round(float(np.mean(shares)), 4)


def variety(questions, replies):
    """distinct-1, distinct-2, and the share of replies that the grammar makes."""
    good = np.mean([reply in REPLIES[q] for q, group in zip(questions, replies) for reply in group])
    return {"distinct_1": distinct(replies, 1), "distinct_2": distinct(replies, 2), "good": round(float(good), 4)}


# %%
# Training
# --------


def learn(name, train, vocabulary, epochs, batch_size, seed):
    """A model that has learned, and how long that took."""
    start = perf_counter()
    sizes = {"embedding_dim": 32, "hidden_size": 96, "seed": seed}
    if name == "Seq2Seq":
        model = fr.models.Seq2Seq(vocabulary, cell="gru", attention=None, peeky=True, **sizes)
        found = pairs(train)
        each = batch_size * len(found) // len(train)  # as many replies a step as the others
        data = model.batches(found, each)
    else:
        extra = {} if name == "HRED" else {"latent_size": 16, "annealing": epochs * len(train) // batch_size // 2}
        model = getattr(fr.models, name)(vocabulary, context_size=96, **sizes, **extra)
        # What people say, at even turns, nobody has to learn.
        weight = [[(k + 1) % 2 for k in range(len(turns) - 1)] for turns in train]
        data = fr.DialogueBatches(train, batch_size=batch_size, vocabulary=vocabulary, weight=weight)
    fr.fit(
        model, data, None, fr.optim.Adam(model, lr=5e-3), epochs=epochs, schedule=fr.schedules.Cosine(), clip_norm=1.0,
        seed=seed, progress=False,
    )  # fmt: skip
    return model, perf_counter() - start


# %%
# The figure
# ----------


def plot(path, by_distance, chance, variety_of):
    """Accuracy against distance; variety of replies."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for (name, points), style in zip(by_distance.items(), ("o-", "s-", "^--")):
        left.plot(list(points), [100 * share for share in points.values()], style, label=name)
    left.axhline(100 * chance, color="0.6", linestyle=":", label="chance")
    left.set(xlabel="turns from telling to asking", ylabel="right answers, %", ylim=(-3, 103))
    left.legend()
    ways = list(next(iter(variety_of.values())))
    for shift, (name, found) in enumerate(variety_of.items()):
        at = np.arange(len(ways)) + 0.4 * shift
        for n, (place, alpha) in enumerate([(-0.1, 0.5), (0.1, 1.0)], 1):
            bars = [found[way][f"distinct_{n}"] for way in ways]
            right.bar(at + place, bars, 0.18, label=f"{name}, distinct-{n}", color=f"C{1 + shift}", alpha=alpha)
    right.set(xticks=np.arange(len(ways)) + 0.2, xticklabels=ways, ylabel="share of different words, pairs of words")
    right.margins(y=0.3)
    right.legend(loc="upper left", ncols=2)
    figure.savefig(path, dpi=100)


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer dialogues and epochs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the figures as the last line")
    parser.add_argument("--output", default=".", help="folder for the plot")
    args = parser.parse_args()

    # quickly: shorter dialogues, four names and four colours
    count, held_out, epochs, most, values = (800, 100, 14, 1, 4) if args.quick else (3000, 400, 8, 2, 8)
    rng, batch_size = np.random.default_rng(args.seed), 16
    made = [make(rng, most, values) for _ in range(count + held_out)]
    train, test = [turns for turns, _ in made[:count]], made[count:]
    vocabulary = fr.text.Vocabulary.from_texts(text for turns in train for text in turns)
    asked, before = [], []
    for turns, facts in test:
        for turn, told, fact, value in facts:
            asked.append((turn - told, (fact, value)))
            before.append(turns[: turn + 1])
    chance = 1 / values
    talk = [turns[: k + 1] for turns, _ in test for k in range(0, len(turns), 2) if turns[k] in TALK][:200]
    print(f"{count} dialogues to learn from, {held_out} held out with {len(asked)} questions; {len(vocabulary)} words")

    found, by_distance, variety_of = {"chance": round(chance, 4)}, {}, {}
    for name in ("Seq2Seq", "HRED", "VHRED"):
        model, seconds = learn(name, train, vocabulary, epochs, batch_size, args.seed)
        if name == "Seq2Seq":
            answers = model.greedy([turns[-1] for turns in before])
        else:
            answers = model.reply(before, seed=args.seed)
        share, by_distance[name] = accuracy(answers, asked)
        found[name] = {"accuracy": round(share, 4), "seconds": round(seconds, 1)}
        print(f"{name:8} {share:6.1%} of answers right (chance {chance:.1%}), learned in {seconds:.1f} s")
        if name == "Seq2Seq":
            continue
        questions = [turns[-1] for turns in talk]
        ways = {
            "most probable": list(zip(*(model.reply(talk, beam_size=5, seed=k) for k in range(10)))),
            "ten of a beam": model.reply(talk, beam_size=10, num_samples=10, seed=args.seed),
            "drawn": model.reply(talk, temperature=1.0, num_samples=10, seed=args.seed),
        }
        variety_of[name] = {way: variety(questions, replies) for way, replies in ways.items()}
        for way, figures in variety_of[name].items():
            print(f"         {way}: distinct-1 {figures['distinct_1']:.4f}, distinct-2 {figures['distinct_2']:.4f}, "
                  f"{figures['good']:.1%} good")  # fmt: skip
        found[name]["variety"] = variety_of[name]
        print("         " + " | ".join(ways["most probable"][0][:4]))
    path = Path(args.output, "dialogue.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        plot(path, by_distance, chance, variety_of)
        print(f"plot: {path}")
    except ImportError:
        print("no plot: pip install matplotlib")
    if args.json:
        print(json.dumps({**found, "accuracy_by_distance": by_distance}))


if __name__ == "__main__":
    main()
