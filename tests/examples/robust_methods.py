"""robust_methods.py SCRIPT: what the script keeps is of the seeds that it is asked for, and why a training fails is said.

A program that trains nothing stands for gpt-classify: its accuracy is a hundredth of its arguments."""
import pathlib
import subprocess
import sys
import tempfile

PROGRAM = """#!/bin/sh
case "$1" in
  train) while [ "$1" != --output-dir ]; do shift; done; mkdir -p "$2"; : > "$2/report.json" ;;
  average) while [ "$1" != --output-dir ]; do shift; done; mkdir -p "$2"; : > "$2/model.safetensors" ;;
  evaluate) echo "{\\"accuracy\\": 0.$(printf %02d $#), \\"baselines\\": {\\"bag_of_words\\": {\\"accuracy\\": 0.5}}}" ;;
esac
"""


def main():
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        program = directory / "program"

        def run(text, seeds):
            program.write_text(text)
            program.chmod(0o755)
            return subprocess.run([sys.executable, "-B", sys.argv[1], program, "model", directory / "runs", "--seeds", str(seeds)],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        def expect(what, text):
            if what not in text:
                sys.exit(f"expected {what!r} in:\n{text}")

        expect("--seeds is 1, expected 2 or more", run(PROGRAM, 1).stderr)
        failed = run("#!/bin/sh\necho no such model >&2; exit 1\n", 2)
        expect("no such model", failed.stderr)
        expect("failed with status 1", failed.stderr)
        for seeds, accuracy in ((2, "8.0"), (3, "10.0")):  # evaluate, its five other arguments, and two for each further classifier
            done = run(PROGRAM, seeds)
            if done.returncode != 0:
                sys.exit(done.stderr)
            expect(f"| ensemble of {seeds} | {accuracy} |", done.stdout)
            for result in (f"ensemble-{seeds}.json", f"average-{seeds}/model.safetensors"):
                if not (directory / "runs" / result).exists():
                    sys.exit(f"{result} is missing")


if __name__ == "__main__":
    main()
