"""Which end of the spectrum of an associative memory holds the noise, over (N, alpha) and time.

    python -m experiments.phase_diagram
    python -m experiments.phase_diagram --max_inputs=100 --times=1,10,1e3,1e6

The first takes about a minute on two CPU cores and should end with "0 of 96 points disagree":
the map is predicted by theory/, the points are memories trained by gradient descent. Where the
map is positive the noise is the largest component and truncation must drop the top to remove it.
"""

from absl import flags

from experiments.phase_diagram import phase_map
from experiments.phase_diagram.phase_map import PhaseConfig
from experiments.run import program
from experiments.run.directory import open_run
from experiments.run.program import UserError


def define_flags() -> None:
    """Typed flags with bounds and one-line help."""
    flags.DEFINE_list("times", ["10", "100", "10000"], "Flow times, one panel each.")
    flags.DEFINE_integer("max_inputs", 64, "Largest N; the smallest is 2.", lower_bound=3)
    flags.DEFINE_integer("resolution", 40, "Values of alpha in the map.", lower_bound=2)
    flags.DEFINE_integer("points", 32, "Trained memories.", lower_bound=1, upper_bound=10_000)
    flags.DEFINE_float(
        "step_size", 0.125, "Learning rate over N, so that all N are as accurate.", lower_bound=1e-6
    )
    flags.DEFINE_integer(
        "seed", 0, "Seed of where the points lie.", lower_bound=0, upper_bound=2**31
    )
    program.define_output_flags("phase_diagram")


def main() -> int:
    """Flags in, run directory out; 1 if a measured point lies on the wrong side."""
    config = program.config_from_flags(PhaseConfig)
    times = phase_map.parse_times(config.times)
    if config.step_size > 1.0:
        raise UserError(f"--step_size={config.step_size} must be at most 1 to stay near the flow")
    directory = open_run(flags.FLAGS.out, config, overwrite=flags.FLAGS.overwrite)
    summary = phase_map.run(config, times, directory)
    for i, time in enumerate(times):
        print(
            f"t = {time:g}: noise on top at {100 * summary[f't{i}/noise_on_top']:.0f} % of the "
            f"map; largest relative error of a measured ratio {summary[f't{i}/largest_error']:.2g}"
        )
    print(
        f"{summary['disagree']:.0f} of {summary['points']:.0f} points disagree "
        f"({summary['undecided']:.0f} within {phase_map.UNDECIDED} of the boundary, not judged)"
    )
    print(f"figures: {directory.path / 'figures'}")
    return 1 if summary["disagree"] else 0


if __name__ == "__main__":
    define_flags()
    program.run_flags(main)
