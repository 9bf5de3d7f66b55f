"""Twenty faults that the tests must see: ten that an issue named, ten of a reader of `study/`.

The second ten were written down before any test was looked at.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A small wrong change of one file."""

    what: str
    """What is wrong, in a few words."""
    harm: str
    """What it would do to a user."""
    file: str
    """Path from the repository's root."""
    old: str
    """Text that the file has exactly once ..."""
    new: str
    """... and what stands in its place."""
    tests: tuple[str, ...]
    """Tests that claim to see it, as pytest names them: few, and fast."""


NAMED = (
    Fault(
        what="one sign in the C gradient",
        harm="Networks learn from a wrong gradient of the cell input, worse and in silence.",
        file="study/native/recurrence.c",
        old="dc_now * i * (1.0f - g * g),",
        new="dc_now * i * (1.0f + g * g),",
        tests=("tests/models/test_native.py::test_outputs_and_gradients_are_those_of_torch",),
    ),
    Fault(
        what="the warm-up mask off by a day",
        harm="A day is scored whose first day of warm-up was a gap fed as the mean.",
        file="study/data/splits.py",
        old="gaps[:, warmup + 1 :] == gaps[:, : valid.shape[1] - warmup]",
        new="gaps[:, warmup + 1 :] == gaps[:, 1 : valid.shape[1] - warmup + 1]",
        tests=(
            "tests/data/test_periods.py::test_a_day_is_warm_if_it_and_all_days_before_are_valid",
            "tests/data/test_arrays.py::test_masked_days_are_those_a_gap_spoils_in_any_input",
        ),
    ),
    Fault(
        what="the scaler fitted on all days",
        harm="Means and deviations of the test years reach every network that is judged on them.",
        file="study/data/arrays.py",
        old="{n: series[n][taught, train] for n in inputs.dynamic},",
        new="{n: series[n][taught] for n in inputs.dynamic},",
        tests=("tests/data/test_arrays.py::test_only_training_days_reach_the_scaler",),
    ),
    Fault(
        what="test discharge read in search",
        harm="What trains and selects has the discharge in hand that it is to be judged by.",
        file="study/data/arrays.py",
        old='read = {name for name in periods if name != "test" or read_test}',
        new="read = set(periods)",
        tests=("tests/data/test_arrays.py::test_test_discharge_is_not_there_unless_asked_for",),
    ),
    Fault(
        what="halving keeps the worst",
        harm="The search spends its epochs on the worst trials, and an arm's winner is one.",
        file="study/experiment/scheduler.py",
        old="key=lambda job: (-finite(job.scores[rung]), job.key.trial)",
        new="key=lambda job: (finite(job.scores[rung]), job.key.trial)",
        tests=("tests/experiment/test_book.py::test_who_goes_on",),
    ),
    Fault(
        what="common draws not common",
        harm="Arms try other first hyperparameters, so that luck of the draw looks like an effect.",
        file="study/experiment/search.py",
        old="_share(self._search, self._seed, index, name)",
        new="_share(self._search, derive(self._seed, self._arm.name), index, name)",
        tests=("tests/experiment/test_search.py::test_arms_share_their_first_draws",),
    ),
    Fault(
        what="the seeds' part left out of the interval",
        harm="Intervals are too narrow: verdicts do not come again with other seeds.",
        file="study/report/spread.py",
        old="seeds.append(Component.of_seeds(float(np.var(medians)), len(scores)))",
        new="seeds.append(Component.of_seeds(0.0, len(scores)))",
        tests=(
            "tests/report/test_statistics.py::test_intervals_of_few_seeds_cover_where_percentiles_do_not",
        ),
    ),
    Fault(
        what="the verdict's sign",
        harm="The report calls the better arm the worse one.",
        file="study/report/statistics.py",
        old="told = verdict(low, high, margin=margin, seeds=seeds)",
        new="told = verdict(-high, -low, margin=margin, seeds=seeds)",
        tests=("tests/report/test_statistics.py::test_swapping_the_arms_mirrors_the_effect",),
    ),
    Fault(
        what="a replayed event counted twice",
        harm="An epoch that a resumed job repeats stands in the log twice, and a job whose worker "
        "dies after it every time is never given up.",
        file="study/experiment/book.py",
        old="if epoch in job.reports:  # told again",
        new="if False:  # told again",
        tests=("tests/experiment/test_book.py::test_an_epoch_told_again_counts_once",),
    ),
    Fault(
        what="a bundle without clipping at 0",
        harm="An exported model predicts negative discharge in dry spells.",
        file="study/export/graph.py",
        old="""\
    flow = graph.add("Add", graph.add("Mul", y, std), mean)
    graph.add("Max", flow, zero, output="qsim")""",
        new="""\
    flow = graph.add("Add", graph.add("Mul", y, std), mean)
    graph.add("Identity", flow, output="qsim")""",
        tests=("tests/export/test_parity.py::test_no_flow_is_below_zero",),
    ),
)

READ = (
    Fault(
        what="discharge in a wrong unit",
        harm="All discharge is 0.2 % too high: a bias against every other data set and model.",
        file="study/data/camels_us.py",
        old="FT3_IN_M3 = 0.3048**3",
        new="FT3_IN_M3 = 0.305**3",
        tests=("tests/data/test_camels_us.py::test_discharge_is_a_depth_of_the_header_area",),
    ),
    Fault(
        what="the winner chosen on the test period",
        harm="The exported model is the one that was luckiest in the test; its score flatters it.",
        file="study/experiment/progress.py",
        old='key=lambda arm: means[arm]["validation"]["nse_median"]',
        new='key=lambda arm: means[arm].get("test", means[arm]["validation"])["nse_median"]',
        tests=("tests/experiment/test_book.py::test_the_test_period_does_not_choose_the_winner",),
    ),
    Fault(
        what="the EA-LSTM's input gate without its bias",
        harm="On a processor the EA-LSTM is another network than on a GPU and in its bundle.",
        file="study/models/ealstm.py",
        old="input_gate=torch.sigmoid(static_BS @ self.weight_s.T + self.bias_s),",
        new="input_gate=torch.sigmoid(static_BS @ self.weight_s.T),",
        tests=("tests/models/test_native.py::test_outputs_and_gradients_are_those_of_torch",),
    ),
    Fault(
        what="seeds shared between arms",
        harm="Replicates of two arms start alike, and intervals that take them for independent "
        "draws are wrong.",
        file="study/experiment/jobs.py",
        old='return derive("training", spec.search.seed, *key)',
        new='return derive("training", spec.search.seed, *key[1:])',
        tests=("tests/experiment/test_jobs.py::test_every_job_has_random_streams_of_its_own",),
    ),
    Fault(
        what="the checkpoint that the log knows removed",
        harm="A study killed between a checkpoint and its report cannot go on.",
        file="study/experiment/trial.py",
        old="for epoch in self._saved[:-2]:",
        new="for epoch in self._saved[:-1]:",
        tests=(
            "tests/experiment/test_interruption.py::test_a_job_killed_before_its_report_goes_on",
        ),
    ),
    Fault(
        what="the log's last events lost at resume",
        harm="Trials that were done are trained and counted again, and a reading of the test "
        "period can be forgotten.",
        file="study/experiment/eventlog.py",
        old="for content in self._storage.read_all(new):",
        new="for content in self._storage.read_all(new[:-1]):",
        tests=(
            "tests/experiment/test_eventlog.py::test_events_come_back_in_order_with_their_time",
        ),
    ),
    Fault(
        what="S3 asked to overwrite what is there",
        harm="Two drivers of one study write over each other's log, and neither of them leaves.",
        file="study/experiment/storage/s3.py",
        old='Body=content, Metadata=metadata, IfNoneMatch="*")',
        new="Body=content, Metadata=metadata)",
        tests=(
            "tests/experiment/test_storage.py::test_create_refuses_an_existing_object_and_leaves_it[s3]",
        ),
    ),
    Fault(
        what="the spec's equivalence margin ignored",
        harm="A study that declares another margin is judged by 0.01 NSE all the same.",
        file="study/report/effects.py",
        old="""\
        regions=evidence.regions[chosen],
        margin=spec.evidence.equivalence,
""",
        new="""\
        regions=evidence.regions[chosen],
""",
        tests=("tests/report/test_effects.py::test_verdicts_are_by_the_margin_of_the_spec",),
    ),
    Fault(
        what="gaps of a prediction's forcing filled in silence",
        harm="`study predict` repeats yesterday's weather for days that the file lacks.",
        file="study/export/forcing.py",
        old="series = variable.reindex(time=days).transpose(",
        new='series = variable.reindex(time=days, method="ffill").transpose(',
        tests=("tests/export/test_predict.py::test_bad_forcing",),
    ),
    Fault(
        what="the evidence of a begun study open to change",
        harm="The margin can be moved once the results are known, under the same study's name.",
        file="study/spec/study.py",
        old='content["evidence"].pop("split", None)  # until the test is read, see `engine`',
        new='del content["evidence"]',
        tests=("tests/test_spec.py::test_what_may_grow_is_not_in_the_digest",),
    ),
)

FAULTS = NAMED + READ
