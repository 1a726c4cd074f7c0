"""The programs as the fault matrix drives them: a command of seconds and its inputs."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Tiny:
    """A program at its smallest.

    arguments: besides --out; {inputs} stands for the folder of make_inputs.
    reads: the flag that names an input directory, and the path below {inputs} it gets.
    varies: summary keys (a regular expression) that no two runs share, as seconds.
    """

    name: str
    arguments: tuple[str, ...]
    reads: tuple[str, str] | None = None
    varies: str = r"$^"

    @property
    def module(self) -> str:
        return f"experiments.{self.name}"

    def command(self, inputs: Path, out: Path) -> list[str]:
        source = [f"--{self.reads[0]}={inputs / self.reads[1]}"] if self.reads else []
        filled = [a.replace("{inputs}", str(inputs)) for a in self.arguments]
        return [*filled, *source, f"--out={out}"]

    def summary(self, out: Path) -> Mapping[str, object]:
        """summary.json without what no two runs share."""
        found = strict_json((out / "summary.json").read_text())
        return {k: v for k, v in found.items() if not re.search(self.varies, k)}


RECALL = (
    "--length=12", "--num_tokens=5", "--d_model=8", "--batch_size=4", "--feed_forward=linear",
    "--interventions=0.fc_in@0", "--rhos=0.5", "--devices=1", "--eval_batch=8",
    "--final_batch=16", "--spectrum_every=350",
)  # fmt: skip
LONG = ("--steps=1500", "--eval_every=500", "--checkpoint_every=400")
RUN = ("run", "recall")
ASKED = ("--num_examples=12", "--max_length=64", "--bootstrap=100")
TINY = {
    tiny.name: tiny
    for tiny in (
        Tiny("noisy_recall", (*RECALL, *LONG)),
        Tiny("associative_memory", ("--time=100",)),
        Tiny(
            "find_noise",
            ("--max_seeds=1", "--along=1", "--validation=8", "--test=16", "--batch_size=16",
             "--rhos=0.8,0.6,0.4,0.2,0.1,0,-0.1,-0.2"),
            RUN,
            "seconds",
        ),
        Tiny("truncate", ("--num_sequences=16", "--curves=0.fc_in", "--rhos=0.5"), RUN),
        Tiny("phase_diagram", ("--times=3,10", "--max_inputs=6", "--resolution=4", "--points=3")),
        Tiny(
            "sweep",
            ("--num_tokens=5", "--length=12", "--d_model=8", "--batch_size=4",
             "--feed_forward=linear", "--interventions=0.fc_in@0", "--alpha=0.3,0.5",
             "--steps=1500", "--eval_every=500", "--checkpoint_every=400", "--num_seeds=1",
             "--eval_batch=8", "--devices=1"),
            None,
            "seconds",
        ),
        Tiny("verify_theory", ("--quick", "--families=chain")),
        Tiny(
            "linearised",
            ("--widths=4,6", "--num_tokens=5", "--length=8", "--steps=3", "--batch_size=4",
             "--eval_batch=4", "--num_seeds=1"),
        ),
        Tiny(
            "plateau",
            ("--learning_rates=0.01,0.02", "--batch_sizes=4", "--momenta=0.5", "--num_tokens=5",
             "--length=8", "--d_model=4", "--settling=5", "--watched=48", "--num_seeds=1"),
        ),
        Tiny("benchmark", ("--quick", "--rounds=1"), None, ""),
        Tiny(
            "benchmark_search",
            ("--shape=pythia-14m", "--num_prompts=2", "--length=4", "--matrices=fc_in",
             "--rhos=0.5", "--baseline_candidates=1"),
            None,
            "seconds|ratio|difference|peak_memory",
        ),
        Tiny(
            "fetch_model",
            ("--model=somebody/tiny", "--steps=0,1,512", "--offline"),
            ("cache", "cache"),
            "seconds|directory",
        ),
        Tiny(
            "truncate_model",
            ("--tasks=jsonl:{inputs}/colours.jsonl", "--search=grid", "--rhos=0.5,0", *ASKED),
            ("model", "steps/step0"),
        ),
        Tiny(
            "model_dynamics",
            ("--task=jsonl:{inputs}/colours.jsonl", "--interventions=1.mlp@0", *ASKED),
            ("checkpoints", "steps"),
        ),
        Tiny(
            "fact_frequency",
            ("--matrices=fc_out", "--rhos=0.5,0", "--shared=0,0.3", "--longest=100",
             "--bootstrap=100"),
            ("runs", "mini"),
        ),
        Tiny(
            "few_shot",
            ("--problems={inputs}/problems.jsonl", "--shots=0", "--interventions=1.mlp@0",
             "--new_tokens=4", "--batch=2", "--bootstrap=100"),
            ("model", "steps/step0"),
        ),
        Tiny(
            "benchmark_generation",
            ("--num_layers=1", "--d_model=16", "--num_heads=2", "--num_groups=1", "--d_ff=16",
             "--vocab_size=32", "--batch_size=1", "--length=4", "--new_tokens=4", "--rounds=1"),
            None,
            "",
        ),
        Tiny(
            "train_word_problems",
            ("--num_layers=1", "--d_model=16", "--num_heads=2", "--length=64", "--steps=90",
             "--batch_size=4", "--warmup_steps=10", "--block_steps=20", "--checkpoint_every=20",
             "--record_every=30", "--record_problems=8", "--test_problems=8"),
        ),
        Tiny(
            "real_model",
            ("--layer=1", "--along=1", "--rhos=0.5,whitened:0.5", "--moment_tokens=256",
             "--text_tokens=256", "--samples=100"),
            ("model", "asked"),
        ),
        Tiny("export_metrics", (), RUN),
        Tiny("report", ("--subjects=memory,recall",), ("from", "reports")),
        Tiny("tasks", ("--tasks=sums", "--num_examples=20")),
        Tiny(
            "train_mini_pythia",
            ("--num_layers=1", "--d_model=32", "--vocab_size=1536", "--length=32",
             "--num_people=30", "--steps=90", "--batch_size=8", "--warmup_steps=10",
             "--block_steps=20", "--devices=1", "--checkpoint_every=20", "--record_every=30",
             "--record_prompts=8", "--test_prompts=12"),
        ),
    )
}  # fmt: skip


def strict_json(text: str):
    """json.loads without NaN, Infinity and their kin, which no other reader knows."""

    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def require_strict(folder: Path) -> None:
    """Every .json and .jsonl below a folder holds JSON as the standard has it."""
    for file in folder.rglob("*.json*"):
        if file.is_file() and not any(part.startswith("_") for part in file.parts):
            text = file.read_text()
            for line in text.splitlines() if file.suffix == ".jsonl" else [text]:
                if line.strip():
                    strict_json(line)


def make_inputs(folder: Path, tiny: Tiny, start, seed: int = 0) -> Path:
    """What a program reads, below a folder, unless it is there already.

    A finished noisy-recall run, small GPT-NeoX checkpoints with prompts, or a filled hub cache.
    start(module, arguments) runs a program to its end and asserts that it succeeded.
    """
    kind = tiny.reads[1].split("/")[0] if tiny.reads else ""
    if (folder / kind).exists():
        return folder
    if kind == "recall":
        recall = [*RECALL, "--steps=60", "--eval_every=30", "--checkpoint_every=20"]
        recall += ["--num_seeds=2", f"--seed={seed}", f"--out={folder / 'recall'}"]
        start("experiments.noisy_recall", recall)
    if kind == "steps":
        from tests.experiments.model_checkpoint import write_checkpoint, write_prompts

        for number in range(3):
            write_checkpoint(folder / "steps" / f"step{number}", seed=seed + number)
        write_prompts(folder / "colours.jsonl")
        problems = [{"question": f"{i} hats and 1?", "answer": f"It is {i + 1}.\n#### {i + 1}"}
                    for i in range(4)]  # fmt: skip
        lines = "".join(json.dumps(problem) + "\n" for problem in problems)
        (folder / "problems.jsonl").write_text(lines)
    if kind == "asked":
        from tests.experiments.model_checkpoint import write_checkpoint

        told = [f" {land} {land}" for land in ("Spain", "France", "Italy", "Peru")] * 60
        write_checkpoint(folder / "asked", seed=seed, texts=told)
    if kind == "mini":
        from tests.experiments.fact_frequency.mini_run import write_run

        write_run(folder / "mini", seed)
    if kind == "cache":
        fill_cache(folder / "cache")
    if kind == "reports":
        # Exact, so that no seed changes it; of another size it is not the run that is asked for.
        memory = [f"--num_inputs={3 if seed else 2}", f"--out={folder / 'reports' / 'memory_two'}"]
        start("experiments.associative_memory", memory)
    return folder


def fill_cache(folder: Path) -> None:
    """What fetching three steps of a small model from a hub leaves in its cache."""
    from tests.bridge import fake_hub
    from truncated_weights.bridge import hub

    source = ROOT / "tests" / "data" / "tiny_gpt_neox" / "safetensors_fp16"
    files = {path.name: path.read_bytes() for path in source.glob("*.*")}
    steps = ("step0", "step1", "step512")
    with fake_hub.running({"somebody/tiny": dict.fromkeys(steps, files)}) as running:
        for step in steps:
            hub.fetch("somebody/tiny", step, cache=folder, endpoint=running.endpoint)
