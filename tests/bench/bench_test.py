#!/usr/bin/env python3
"""The names and counters of the benchmarks, and the scripts that read them. Everything runs with --smoke: no number here
is a measurement, and none is compared."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

PROGRAMS = pathlib.Path(os.environ["GPT_BENCH_PROGRAMS"])
SOURCES = pathlib.Path(os.environ["GPT_BENCH_SOURCES"])
PEAKS = ("fma", "int8", "int8_sum16", "int16", "read_4k", "read_2m", "read_cache")


def run(program, *arguments, environment=None, status=0):
    """Standard output of a program that must end with `status`, and standard error."""
    result = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False,
                            env={**os.environ, **(environment or {})})
    if result.returncode != status:
        raise AssertionError(f"{program} {arguments}: exit status {result.returncode}, expected {status}\n"
                             f"{result.stdout}\n{result.stderr}")
    return result.stdout, result.stderr


def smoke(program, name, *options, environment=None, status=0):
    """The results of the benchmark with exactly this name."""
    out, err = run(PROGRAMS / program, "--smoke", "--benchmark_format=json", f"--benchmark_filter=^{name}$", *options,
                   environment=environment, status=status)
    return json.loads(out)["benchmarks"], err


def listed(program, environment=None):
    return run(PROGRAMS / program, "--benchmark_list_tests=true", environment=environment)[0].split()


def script(name, *arguments, status=0):
    return run(sys.executable, "-B", SOURCES / name, *arguments, status=status)


class Names(unittest.TestCase):
    def check(self, program, name, counters, *options, environment=None):
        results, _ = smoke(program, name, *options, environment=environment)
        self.assertEqual([r["name"] for r in results], [name])
        for counter in counters:
            self.assertGreater(results[0].get(counter, 0), 0, f"{name}: {counter} in {results[0]}")
        self.assertGreater(results[0]["real_time"], 0)
        return results[0]

    def test_matrix_products(self):
        for isa in ("scalar", self.best_isa()):
            environment = {"GPT_FORCE_ISA": isa}
            for form in ("f32", "f16", "bf16", "int8", "int4", "f32-inout", "f32-outin", "int4-g32-asym-wo"):
                result = self.check("bench_ops", f"BM_Matmul/{form}/M:3/N:33/K:64/isa:{isa}/threads:2",
                                    ("gflops", "frac_fma_peak", "frac_read_peak", "peak_rss_mb"),
                                    environment=environment)
                self.assertEqual("frac_int16_peak" in result, form == "int8")
                self.assertEqual("frac_int8_sum16_peak" in result, form == "int4")

    def test_documented_matrix_product_is_listed(self):
        isa = self.best_isa()
        self.assertIn(f"BM_Matmul/f32/M:512/N:2304/K:768/isa:{isa}/threads:1", listed("bench_ops"))

    def test_other_ops(self):
        end = f"isa:{self.best_isa()}/threads:1"
        for name in (f"BM_LayerNorm/f32/R:3/C:40/{end}", f"BM_Softmax/f32/R:3/C:40/{end}",
                     f"BM_Activation/gelu_new/R:3/C:40/{end}"):
            self.check("bench_ops", name, ("gb_per_s", "frac_cache_peak", "peak_rss_mb"))
        for cache in ("f32", "f16", "bf16", "int8"):
            self.check("bench_ops", f"BM_Attention/{cache}/T:5/past:0/H:2/D:16/{end}", ("gflops", "frac_fma_peak"))
            self.check("bench_ops", f"BM_Attention/{cache}/T:1/past:20/H:2/D:16/{end}", ("gflops", "frac_read_peak"))

    def test_prefill(self):
        for form in ("f32", "int8", "f32-file"):
            self.check("bench_model", f"BM_Prefill/{form}/T:512/threads:2",
                       ("tok_per_s", "frac_fma_peak", "peak_rss_mb"))
        self.check("bench_model", "BM_PrefillAllLogits/f32/T:5/threads:1", ("tok_per_s", "frac_fma_peak"))

    def test_decode(self):
        for form in ("f32", "f16", "bf16", "int8", "int4"):
            for cache, context, batch in (("f32", 0, 1), ("int8", 512, 2)):
                self.check("bench_model", f"BM_Decode/{form}/kv:{cache}/ctx:{context}/batch:{batch}/threads:2",
                           ("tok_per_s", "frac_read_peak", "peak_rss_mb"))

    def test_load(self):
        for how in ("mapped", "copied", "packed"):
            for form in ("f32", "int8", "int4"):
                self.check("bench_model", f"BM_Load/{form}/{how}/threads:1", ("first_token_s", "peak_rss_mb"))

    def test_scheduler(self):
        for how in ("generate", "scheduler"):
            self.check("bench_model", f"BM_Scheduler/f32/{how}/requests:5/prompt:20/new:3/batch:2/threads:2",
                       ("tok_per_s", "frac_fma_peak", "peak_rss_mb"))

    def test_train(self):
        self.check("bench_train", "BM_TrainStep/f32/B:2/T:7/threads:2", ("tok_per_s", "frac_fma_peak", "peak_rss_mb"))

    def test_text(self):
        for family in ("BM_Encode", "BM_DecodeText"):
            self.check("bench_text", f"{family}/byte_bpe/bytes:300/threads:1", ("mb_per_s", "tok_per_s", "peak_rss_mb"))
        for kind in ("schema", "json", "regex", "gbnf", "long"):
            self.check("bench_text", f"BM_GrammarMask/{kind}/threads:1", ("tok_per_s", "mask_us", "compile_ms"))

    def test_repetitions_have_the_same_name_and_iterations(self):
        name = f"BM_LayerNorm/f32/R:3/C:40/isa:{self.best_isa()}/threads:1"
        out, _ = run(PROGRAMS / "bench_ops", "--no-peaks", "--benchmark_min_time=0.01", "--benchmark_repetitions=3",
                     "--benchmark_format=json", f"--benchmark_filter=^{name}$")
        runs = [r for r in json.loads(out)["benchmarks"] if r["run_type"] == "iteration"]
        self.assertEqual({r["name"] for r in runs}, {name})
        self.assertEqual((len(runs), len({r["iterations"] for r in runs})), (3, 1))

    def test_default_names_have_no_suffix(self):
        for program in ("bench_ops", "bench_model", "bench_text", "bench_train"):
            names = listed(program)
            self.assertGreater(len(names), 3)
            for name in names:
                self.assertRegex(name, r"^BM_[A-Za-z]+/.*/threads:\d+$")

    def best_isa(self):
        first = listed("bench_ops")[0]
        return next(part[4:] for part in first.split("/") if part.startswith("isa:"))


class Failures(unittest.TestCase):
    def test_values_that_cannot_be_are_named(self):
        results, _ = smoke("bench_model", "BM_Prefill/f33/T:5/threads:1", status=1)
        self.assertIn("f33", results[0]["error_message"])
        results, _ = smoke("bench_model", "BM_Decode/f32/kv:f99/ctx:0/batch:1/threads:1", status=1)
        self.assertIn("f99", results[0]["error_message"])
        results, _ = smoke("bench_ops", "BM_Matmul/f32/M:0/N:1/K:1/isa:scalar/threads:1", status=1,
                           environment={"GPT_FORCE_ISA": "scalar"})
        self.assertIn("M:0", results[0]["error_message"])

    def test_no_benchmark_found_is_a_failure(self):
        run(PROGRAMS / "bench_ops", "--benchmark_filter=^BM_Nothing$", status=1)

    def test_unknown_options_are_refused(self):
        for program in ("bench_ops", "bench_model", "bench_text", "bench_train", "bench_peaks"):
            run(PROGRAMS / program, "--no-such-option", status=2)

    def test_without_the_peaks_there_are_no_fractions(self):
        name = "BM_Prefill/f32/T:5/threads:1"
        for option in ("--no-peaks", "--peaks=/nowhere/bench_peaks"):
            results, err = smoke("bench_model", name, option)
            self.assertGreater(results[0]["tok_per_s"], 0)
            self.assertFalse([c for c in results[0] if c.startswith(("frac_", "peak_fma", "peak_read"))])
            self.assertEqual("warning" in err, option != "--no-peaks")


class Peaks(unittest.TestCase):
    def test_every_kind_is_measured(self):
        for option in ((), ("--portable",)):
            out, _ = run(PROGRAMS / "bench_peaks", "--smoke", "--samples=1", "--threads=2", "--json", *option)
            peaks = json.loads(out)
            for kind in PEAKS:
                self.assertGreater(peaks[kind], 0, kind)
            tiles = not option and "amx_int8" in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
            self.assertEqual("int8_tiles" in peaks, tiles)
            self.assertGreater(peaks.get("int8_tiles", 1), 0)

    def test_serves_requests_and_ends_with_its_input(self):
        result = subprocess.run([PROGRAMS / "bench_peaks", "--serve", "--smoke"], input="fma 1\nnonsense 1\nfma 0\n",
                                capture_output=True, text=True, check=True)
        rates = list(map(float, result.stdout.split()))
        self.assertGreater(rates[0], 0)
        self.assertEqual(rates[1:], [0, 0])


class Help(unittest.TestCase):
    def test_every_program_explains_itself(self):
        for program in ("bench_ops", "bench_model", "bench_text", "bench_train", "bench_peaks"):
            out, _ = run(PROGRAMS / program, "--help")
            self.assertIn("Example: " + program, out)
        for name in ("compare", "side_by_side", "training_step", "roofline.py", "tables.py"):
            self.assertIn("usage: ", script(name, "--help")[0])


class Scripts(unittest.TestCase):
    def test_side_by_side_takes_the_median_of_ratios(self):
        with tempfile.TemporaryDirectory() as directory:
            # Theirs: 1, 2, 3 tok/s, one after the other.
            theirs = f"echo x >> {directory}/n; echo version 7; echo $(wc -l < {directory}/n) tok/s"
            out, _ = script("side_by_side", "--ours=echo 6 tok/s", f"--peer={theirs}", "--pairs=3", "--json")
            result = json.loads(out)
            self.assertEqual((result["ours"], result["peer"], result["ratio"]), (6, 2, 3))
            self.assertEqual((result["min"], result["max"], result["pairs"]), (2, 6, 3))

    def test_side_by_side_fails_below_the_ratio_asked_for(self):
        command = ("side_by_side", "--ours=echo 1", "--peer=echo 2", "--pairs=1")
        script(*command, "--at-least=0.5")
        self.assertIn("below", script(*command, "--at-least=0.51", status=1)[1])
        self.assertIn("exit status", script("side_by_side", "--ours=echo 1", "--peer=false", status=1)[1])
        self.assertIn("no rate", script("side_by_side", "--ours=echo 1", "--peer=echo x", status=1)[1])

    def test_side_by_side_runs_a_benchmark(self):
        out, _ = script("side_by_side", f"--program={PROGRAMS}/bench_model", "--benchmark=BM_Prefill/f32/T:5/threads:1",
                        "--option=--smoke", "--option=--no-peaks", "--peer=echo 10 t/s", "--pairs=2", "--json")
        self.assertGreater(json.loads(out)["ours"], 0)

    def test_training_step_compares_speed_and_memory(self):
        def program(path, text):
            path.write_text("#!/bin/sh\n" + text, encoding="utf-8")
            path.chmod(0o755)
            return path

        with tempfile.TemporaryDirectory() as directory:
            directory = pathlib.Path(directory)
            run_ = {"name": "BM_TrainStep/f32/B:4/T:64/threads:1", "run_type": "iteration", "tok_per_s": 30.0, "peak_rss_mb": 70.0}
            ours = program(directory / "ours", f"echo '{json.dumps({'benchmarks': [run_]})}'\n")
            torch = program(directory / "torch", "echo peak memory 100 MiB, 20.0 tok/s\n")
            # 256 tokens in the median of 2, 4 and 8 seconds; the first step does not count.
            llmc = program(directory / "llmc", "".join(f"echo 'step {i}: train loss 5.0 (took {ms} ms)'\n"
                                                       for i, ms in enumerate((1.0, 2000.0, 8000.0, 4000.0))) + "exec sleep 60\n")
            command = ("training_step", f"--program={ours}", f"--python={torch}", "--threads=1", "--pairs=2")
            out, _ = script(*command, "--shape=4x64", f"--llmc={llmc}", "--json")
            beside_torch, beside_llmc = map(json.loads, out.splitlines())
            self.assertEqual((beside_torch["peer"], beside_torch["speed"], beside_torch["memory"]), ("PyTorch", 1.5, 0.7))
            self.assertEqual((beside_llmc["peer"], beside_llmc["peer_tok_per_s"]), ("llm.c", 64.0))
            self.assertIn("no benchmark", script(*command, "--shape=2x64", status=1)[1])
            self.assertIn("expected BxT", script(*command, "--shape=64", status=2)[1])
            program(torch, "echo nothing\n")
            self.assertIn("no rate", script(*command, "--shape=4x64", status=1)[1])

    def test_compare_refuses_trees_inside_the_sources(self):
        _, err = script("compare", "HEAD", ".", "--filter=x", f"--trees={SOURCES}/trees", "--option=--pairs=1", status=2)
        self.assertIn("outside the sources", err)

    def test_compare_names_a_revision_that_is_not_there(self):
        with tempfile.TemporaryDirectory() as directory:
            _, err = script("compare", "no-such-revision", "HEAD", "--filter=x", f"--trees={directory}", status=2)
            self.assertIn("no-such-revision", err)

    def test_plot_and_tables_are_made_from_results(self):
        with tempfile.TemporaryDirectory() as directory:
            results, page, plot = (pathlib.Path(directory) / n for n in ("r.json", "README.md", "plot.svg"))
            run(PROGRAMS / "bench_model", "--smoke", f"--benchmark_out={results}",
                "--benchmark_filter=^(BM_Prefill/f32/T:5/threads:1|BM_Decode/int8/kv:f32/ctx:0/batch:1/threads:1)$")
            script("roofline.py", results, f"--output={plot}", "--threads=1")
            drawing = xml.dom.minidom.parse(str(plot))
            self.assertEqual(len(drawing.getElementsByTagName("circle")), 2)

            page.write_text("before\n<!-- tables -->\nold\n<!-- /tables -->\nafter\n", encoding="utf-8")
            script("tables.py", results, f"--write={page}")
            text = page.read_text(encoding="utf-8")
            self.assertRegex(text, r"(?s)^before\n.*after\n$")
            for part in ("### Prefill", "### Decode", "| int8 | f32 | 0 | 1 | 1 |"):
                self.assertIn(part, text)
            self.assertNotIn("old", text)


if __name__ == "__main__":
    unittest.main()
