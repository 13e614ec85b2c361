"""Cells of several processes: the command of `accelerate launch`, on one machine or on several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from rlvid.config import load
from rlvid.errors import UserError
from rlvid.grids.cell import Cell
from rlvid.utils.mistakes import first_line

LAUNCH = ("-m", "accelerate.commands.launch")
UNREADABLE = (OSError, AttributeError, TypeError, ValueError, yaml.YAMLError)  # while a YAML file is read as a table


def launch_command(config: Path, command: Sequence[str], machines: int = 1) -> tuple[str, ...]:
    """Return the arguments of Python that run a command with `accelerate launch`.

    Args:
        config: the YAML file of `accelerate launch --config_file`.
        command: the arguments of Python for one process.
        machines: how many machines share the run; each of them runs as many processes as the file has per machine.

    Raises:
        UserError: for several machines, if the file does not say how many processes each of them runs, or lets
            DeepSpeed start the other machines.
    """
    counts: tuple[str, ...] = ()
    if machines > 1:
        num_processes = machines * processes_per_machine(config)
        counts = ("--num_machines", str(machines), "--num_processes", str(num_processes))
    return (*LAUNCH, "--config_file", str(config), *counts, *command)


def check_process_count(cells: Sequence[Cell], arguments: Sequence[str]) -> None:
    """Refuse cells whose steps have too few prompts for their processes, before any of them is started or queued.

    Args:
        cells: of a grid.
        arguments: from `launch_command`. A config without `num_processes` is not checked: accelerate counts GPUs.

    Raises:
        UserError: a cell has fewer prompts in a minibatch than processes, or accelerate's config cannot be read.
    """
    if "--num_processes" in arguments:
        num_processes = int(arguments[list(arguments).index("--num_processes") + 1])
    else:
        config = Path(arguments[list(arguments).index("--config_file") + 1])
        try:
            num_processes = int(yaml.safe_load(config.read_text()).get("num_processes") or 1)
        except UNREADABLE as error:
            raise UserError(f"{config}: not a config of accelerate: {first_line(error)}") from error
    if num_processes == 1:
        return
    from rlvid.policy.optimizer import check_num_processes  # torch takes seconds to load

    for cell in cells:
        loaded = load(cell.preset, cell.overrides)
        try:
            check_num_processes(loaded.train, loaded.algorithm.build("algorithms"), num_processes)
        except UserError as error:
            raise UserError(f"arm {cell.arm!r}: {error}") from error


def processes_per_machine(config: Path) -> int:
    """Return `num_processes` / `num_machines` of a YAML file whose machines are started one by one.

    Raises:
        UserError: that is no whole number, or DeepSpeed's own launcher would start all machines from each of them.
    """
    try:
        settings = yaml.safe_load(config.read_text())
        num_processes, num_machines = int(settings["num_processes"]), int(settings.get("num_machines", 1))
        deepspeed = settings.get("deepspeed_config", {})
        starts_others = bool(deepspeed) and deepspeed.get("deepspeed_multinode_launcher") != "standard"
    except (KeyError, *UNREADABLE) as error:
        raise UserError(f"{config}: not an accelerate config with num_processes: {error!r}") from error
    if num_processes < 1 or num_machines < 1 or num_processes % num_machines:
        raise UserError(f"{config}: num_processes = {num_processes} is not a multiple of num_machines = {num_machines}")
    if starts_others:
        raise UserError(f"{config}: several nodes require deepspeed_multinode_launcher: standard in deepspeed_config")
    return num_processes // num_machines


def on_machine(command: Sequence[str], rank: int, address: str, port: int) -> list[str]:
    """Return a command line with `accelerate launch` for one machine of several.

    >>> on_machine(["python", "-m", "accelerate.commands.launch", "train.py"], 1, "node7", 20042)[3:]
    ['--machine_rank', '1', '--main_process_ip', 'node7', '--main_process_port', '20042', 'train.py']

    Args:
        command: the command line, see `launch_command`.
        rank: the number of the machine, from 0.
        address: of machine 0.
        port: a free port of machine 0, where the machines meet.
    """
    end = list(command).index(LAUNCH[-1]) + 1
    place = ["--machine_rank", str(rank), "--main_process_ip", address, "--main_process_port", str(port)]
    return [*command[:end], *place, *command[end:]]
