"""Nothing but the program's own lines reaches standard error, whatever libraries have to say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("quiet_program.py")
OWN_LINE = re.compile(
    r"note: .+|error: .+|\d+ (done|failed|skipped).* in \d+\.\d s"
    r"|.+: \d+x\d+ -> \d+x\d+ in \d+\.\d s \(.+\)"
)


@pytest.mark.parametrize("flags", [(), ("--keep-damaged",)])
def test_standard_error_has_only_own_lines(data, tmp_path, program_environment, flags):
    files = [path for path in sorted((data / "images").rglob("*")) if path.is_file()]
    names = tmp_path / "names.txt"
    names.write_text("\n".join(map(str, files)))
    ended = subprocess.run(
        [sys.executable, PROGRAM, "--files-from", names, "-o", tmp_path / "out/",
         "--max-side", "24", "--max-pixels", "3000000", "--name", "{folder}/{stem}_{suffix}.{ext}",
         *flags],
        cwd=tmp_path,
        env=program_environment,
        capture_output=True,
        check=False,
    )  # fmt: skip
    lines = ended.stderr.decode(errors="replace").splitlines()
    assert [line for line in lines if not OWN_LINE.fullmatch(line)] == []
    assert ended.returncode == 3
    assert sum(line.startswith("error: ") for line in lines) > 30
    assert len(ended.stdout.splitlines()) > 150
