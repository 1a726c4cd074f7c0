"""Every prediction of theory/ against simulation, in one table with standard errors.

    python -m experiments.verify_theory --quick
    python -m experiments.verify_theory

The first takes under two minutes on two CPU cores, the second under fifteen. Both print a table
of more than a hundred rows and should end with "0 failed"; any failed row makes the exit code 1.
Simulations use toy/ and automatic differentiation and share no code with theory/.
"""

from absl import flags

from experiments.run import program
from experiments.run.directory import open_run
from experiments.verify_theory import report, table
from experiments.verify_theory.report import FAMILIES, VerifyConfig


def define_flags() -> None:
    """Typed flags with bounds and one-line help."""
    flags.DEFINE_bool("quick", False, "Smaller simulations: two minutes instead of fifteen.")
    flags.DEFINE_multi_enum(
        "families", list(FAMILIES), list(FAMILIES), "Predictions to verify; repeat the flag."
    )
    flags.DEFINE_integer("seed", 0, "Seed of every simulation.", lower_bound=0, upper_bound=2**31)
    program.define_output_flags("verify_theory")


def main() -> int:
    """Flags in, run directory out; 1 if a verdict fails."""
    config = program.config_from_flags(VerifyConfig)
    directory = open_run(flags.FLAGS.out, config, overwrite=flags.FLAGS.overwrite)
    rows = report.run(config, directory)
    print(table.markdown(rows))
    failed = table.failures(rows)
    for row in failed:
        print(f"FAIL {row.family}: {row.name} ({row.setting})")
    print(
        f"{len(rows)} rows, {len(failed)} failed; z limit {table.z_limit(rows):.2f} for a false "
        f"alarm rate of {table.FALSE_ALARMS:g} over the table"
    )
    print(f"figures: {directory.path / 'figures'}")
    return 1 if failed else 0


if __name__ == "__main__":
    define_flags()
    program.run_flags(main)
