"""Print the training accuracy by round beside the published one, and plot both into tff-kuzushiji.png.

Reads what `fedn sandbox --json` prints on its standard input, and is run by `fedn sandbox --example`.
"""

import json
import sys

PUBLISHED = (
    0.5711, 0.6949, 0.7132, 0.7231, 0.7319, 0.7404, 0.7484, 0.7557, 0.7617, 0.7661,
    0.7695, 0.7728, 0.7764, 0.7788, 0.7814, 0.7836, 0.7855, 0.7872, 0.7885, 0.7902,
)  # fmt: skip
"""Training accuracy on Kuzushiji-MNIST by round; its images were shuffled before they were dealt."""
PICTURE = "tff-kuzushiji.png"


def plot(name, ours):
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="round", ylabel="training accuracy, before each step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.plot(range(1, len(PUBLISHED) + 1), PUBLISHED, "o", mfc="none", label="Kuzushiji-MNIST, published")
    axes.plot(range(1, len(ours) + 1), ours, label=f"{name}, this run")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(PICTURE, dpi=150)


def main():
    report = json.load(sys.stdin)
    name = report["data"].partition(" in order")[0]
    ours = [metrics["accuracy"] for metrics in report["training"]]
    same = name == "Kuzushiji-MNIST"
    print(f"Training accuracy: {name} here" + ("" if same else "; what was published is of Kuzushiji-MNIST"))
    print("round    here  published" + ("  difference" if same else ""))
    for number, accuracy in enumerate(ours, 1):
        published = PUBLISHED[number - 1] if number <= len(PUBLISHED) else float("nan")
        difference = f"  {accuracy - published:+10.4f}" if same else ""
        print(f"{number:5}  {accuracy:.4f}     {published:.4f}{difference}")
    plot(name, ours)
    print(f"Plotted into {PICTURE}.")


if __name__ == "__main__":
    main()
