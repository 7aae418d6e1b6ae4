"""The processes in which a submission runs: they compute and answer, and decide nothing.

    python -m tests.sandbox_process ADDRESS

imports the libraries once and listens on the socket ADDRESS. For each connection it forks a
supervisor, and a supervisor forks a process for each session of a submission. What a session
starts, and what that starts, ends with it: on Linux the supervisor adopts what is left over. As
root the session belongs to another user. Where Linux has Landlock, as root or not, it can write to
its own folders alone, cannot read this project (its solution least of all), and cannot send signals
to others.
"""

import contextlib
import ctypes
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import numpy as np

from tests.wire import Ref, Tensor, decode, encode

PRELOADED = ("torch", "torch.nn.functional", "torchvision", "sklearn.datasets", "PIL.Image",
             "matplotlib.figure", "matplotlib.backends.backend_agg", "numpy.testing", "tqdm",
             "csv", "typing", "math")  # fmt: skip
DEVICES = ("null", "zero", "full", "random", "urandom", "shm")  # that a session may write to
ROOT = Path(__file__).resolve().parents[1]
MAX_MEMORY = 1536 * 2**20  # bytes that a process may allocate
MAX_FILE = 2**28  # bytes of a file that it may write, its own output included
MAX_PROCESSES = 256  # of a session that runs as another user, its threads included
MAX_TEXT = 2**22  # characters of a file that are sent
PR_SET_KEEPCAPS, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 8, 36, 38  # linux/prctl.h
CAP_DAC_READ_SEARCH = 2  # linux/capability.h: may read every file
CAPABILITY_VERSION = 0x20080522
# linux/landlock.h: system calls, rights, and the rights that each version of it has
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
READ = 0b1101  # execute and read files, list folders
N_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # later ones: 16
FILE_RIGHTS = 0b1100000000000111  # those that a file can have, which is no folder


# --- Processes ------------------------------------------------------------------------------------


def main(address: str) -> None:
    """Listen until standard input is closed, as it is when the grader ends."""
    os.environ["MPLBACKEND"] = "Agg"
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the grader's
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                with contextlib.suppress(ChildProcessError):  # so that their time counts as ours
                    while os.waitpid(-1, 0):
                        pass
                return
            connection, _ = listener.accept()
            if not _is_of_the_grader(connection):
                connection.close()
                continue
            if os.fork() == 0:
                listener.close()
                with contextlib.suppress(OSError):
                    _supervise(connection)
                os._exit(0)
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _is_of_the_grader(connection: socket.socket) -> bool:
    """Whether the grader has connected, and not a session, which would get one without bounds."""
    if sys.platform != "linux":
        return True
    size = struct.calcsize("3i")  # process, user and group; unix(7)
    process, _, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return process == os.getppid()


def _supervise(control: socket.socket) -> None:
    """Begin and end sessions as the grader asks; answers tell the user and the exit status."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    user = _other_user()
    control.sendall(json.dumps({"user": user}).encode())
    while True:
        text, files, _, _ = socket.recv_fds(control, 2**16, 2)
        if not text:
            return
        request = json.loads(text)
        process = os.fork()
        if process == 0:
            control.close()
            with socket.socket(fileno=files[0]) as channel:
                _become(request, user, files[1])
                serve(channel, Path(request["root"]))
            os._exit(0)
        for file in files:
            os.close(file)
        ended = not control.recv(1)  # the grader has what it wants, or has ended itself
        status = _end(process, user)
        if ended:
            return
        control.sendall(json.dumps({"status": status}).encode())


def _end(process: int, user: int | None) -> int:
    """Kill a session's process and all that is left of what it started; returns its status."""
    status = 0
    if user is not None:
        _kill_all_of(user)
    while True:
        with contextlib.suppress(OSError):
            os.killpg(process, signal.SIGKILL)
        for child in _children():
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        try:
            ended, how = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if ended == process:
            status = os.waitstatus_to_exitcode(how)
        if not ended:
            time.sleep(0.005)
    _remove_shared_memory_of(user)
    return status


def _kill_all_of(user: int) -> None:
    """All processes of a user at once: however fast they fork, none is left to fork again."""
    process = os.fork()
    if process == 0:
        with contextlib.suppress(OSError):
            os.setresuid(user, user, 0)  # the saved one stays root: as that user it killed itself
            os.kill(-1, signal.SIGKILL)
        os._exit(0)
    os.waitpid(process, 0)


def _remove_shared_memory_of(user: int | None) -> None:
    for path in Path("/dev/shm").glob("*") if user is not None else ():
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == user:
                path.unlink()


def _children() -> list[int]:
    """The processes whose parent is this one, adopted ones included; Linux."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text(errors="replace").rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(path.parent.name))
    return found


def _become(request: dict, user: int | None, output: int) -> None:
    """Turn a fresh fork into the process of a submission."""
    os.setsid()
    _limit_resources(request["seconds"], user)
    scratch, root = request["scratch"], request["root"]
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(output)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= {"HOME": scratch, "TMPDIR": scratch, "MPLCONFIGDIR": scratch,
                   "USER": "submission", "LOGNAME": "submission", "PYTHONPATH": root,
                   "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    sys.dont_write_bytecode = True
    tempfile.tempdir = None  # forget the one that the libraries have asked for
    if user is not None:
        _change_user(user)
    _confine(Path(root), Path(scratch))
    os.chdir(root)
    sys.path[:] = [root, *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]


def _limit_resources(seconds: float, user: int | None) -> None:
    import resource

    limits = {resource.RLIMIT_DATA: MAX_MEMORY, resource.RLIMIT_FSIZE: MAX_FILE,
              resource.RLIMIT_CORE: 0, resource.RLIMIT_CPU: int(seconds)}  # fmt: skip
    if user is not None:
        limits[resource.RLIMIT_NPROC] = MAX_PROCESSES
    for kind, most in limits.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))


def _other_user() -> int | None:
    """A user of its own for this supervisor's sessions; None where that cannot be."""
    if os.geteuid() != 0:
        return None
    user = 20_000 + os.getpid() % 40_000
    process = os.fork()
    if process == 0:
        try:
            _change_user(user)
            Path(os.__file__).read_bytes()
            Path(np.__file__).read_bytes()
        except OSError:
            os._exit(1)
        os._exit(0)
    return None if os.waitpid(process, 0)[1] else user


def _change_user(user: int) -> None:
    """Become that user, with the right to read what root can read: Python may lie in /root."""
    _prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    read = 1 << CAP_DAC_READ_SEARCH
    for permitted in (read, 0):  # a container may not have that right; then nothing is kept
        if ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)(permitted, permitted)) == 0:
            return
    raise OSError("the rights of root could not be given up")


def _confine(root: Path, scratch: Path) -> None:
    """Forbid this process and its children what is not theirs, by Landlock, where there is any.

    They may write to the submission's copy, to their scratch folder and to DEVICES, and read
    everything but this project, in which the solution lies; an environment in it can be read.
    Signals and abstract sockets reach no other processes, if Linux is 6.12 or newer.
    """
    if sys.platform != "linux":
        return
    system = ctypes.CDLL(None).syscall
    version = system(LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return
    rights = (1 << N_RIGHTS.get(version, 16)) - 1
    attributes = (ctypes.c_uint64 * 3)(rights, 0, 0b11)  # file system, network, other processes
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = system(LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), 0)
    writable = root, scratch, *(f"/dev/{name}" for name in DEVICES)
    readable = *_all_but(ROOT, Path("/")), sys.prefix, sys.base_prefix
    for path, allowed in [*((p, rights) for p in writable), *((p, READ) for p in readable)]:
        with contextlib.suppress(OSError):
            file = os.open(path, os.O_PATH)
            allowed = allowed if os.path.isdir(path) else allowed & FILE_RIGHTS
            rule = struct.pack("=Qi", allowed, file)
            system(LANDLOCK_ADD, rules, 1, rule, 0)
            os.close(file)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    if system(LANDLOCK_RESTRICT, rules, 0) != 0:
        raise OSError("the session could not be confined")
    os.close(rules)


def _all_but(hidden: Path, folder: Path) -> Iterator[Path]:
    """Files and folders that make up a folder, without a hidden one somewhere in it."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if hidden.is_relative_to(path):
                yield from _all_but(hidden, path) if path != hidden else ()
            elif not path.is_symlink():
                yield path


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(AttributeError, OSError):  # Linux has it
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


# --- Answers --------------------------------------------------------------------------------------


def serve(channel: socket.socket, root: Path) -> None:
    """Do what the grader asks, one message after another, until it closes the channel."""
    file = channel.makefile("rb")
    objects: list[object] = []
    numbers: dict[int, int] = {}

    def read(n: int) -> bytes:
        data = file.read(n)
        if len(data) < n:
            os._exit(0)
        return data

    def keep(value: object) -> object:
        if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
            return _array(value)
        if id(value) not in numbers:
            numbers[id(value)] = len(objects)
            objects.append(value)
        return Ref(numbers[id(value)])

    def here(value: object) -> object:
        match value:
            case Ref(number):
                return objects[number]
            case Tensor(array):
                return _torch().from_numpy(array)
            case list():
                return [here(each) for each in value]
            case dict():
                return {key: here(each) for key, each in value.items()}
        return value

    while True:
        name, args, kwargs = decode(read)
        try:
            result = ACTIONS[name](*here(args), **here(kwargs))
            answer = encode({"result": result}, keep)
        except BaseException as error:
            answer = encode({"error": _in_words(error, root)})
        channel.sendall(answer)


def _in_words(error: BaseException, root: Path) -> str:
    """The error and the submission's line that raised it."""
    try:
        lines = traceback.format_exception_only(error)
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if Path(frame.filename).is_relative_to(root):
                where = f"{Path(frame.filename).relative_to(root)}, line {frame.lineno}"
                lines += [f"in {where}: {frame.line}\n"]
                break
        return "".join(lines).replace(f"{root}{os.sep}", "")[:MAX_TEXT]
    except BaseException:  # an exception of the submission's own, whose text raises another one
        return type(error).__name__


def _torch() -> object:
    import torch

    return torch


def _array(tensor: object) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def import_module(name: str) -> object:
    """A module of the submission; its siblings can be imported by plain name, as in a script."""
    part = str(Path(sys.path[0], name.partition(".")[0]))
    if part not in sys.path:
        sys.path.insert(1, part)
    return importlib.import_module(name)


def call(function: Callable, *args: object, **kwargs: object) -> object:
    """What the function returns."""
    return function(*args, **kwargs)


def fill(layer: object, values: dict[str, np.ndarray]) -> None:
    """Write into the parameters of a NumPy layer."""
    for name, value in values.items():
        layer.params[name][...] = value


def keep_input(layer: object, x: np.ndarray) -> dict[str, np.ndarray]:
    """The output of a layer, and its input as it is afterwards."""
    return {"output": layer.forward(x), "input": x}


def linear_layers(net: object) -> list[object]:
    """What has `params` with weight and bias, in order, wherever the net keeps it."""
    found, seen, todo = [], set(), [net]
    while todo:
        each = todo.pop()
        if id(each) in seen or isinstance(each, type | FrameType | np.ndarray):
            continue
        seen.add(id(each))
        params = getattr(each, "params", None)
        if isinstance(params, dict) and {"weight", "bias"} <= params.keys():
            found.append(each)
            continue
        if isinstance(each, dict):
            inner = list(each.values())
        elif isinstance(each, list | tuple):
            inner = list(each)
        else:
            inner = list(getattr(each, "__dict__", {}).values())
        todo.extend(reversed(inner))
    return found


def attribute(holder: object, name: str) -> object:
    """An attribute of an object."""
    return getattr(holder, name)


def seed(number: int) -> None:
    """For all generators that have a global state."""
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002
    _torch().manual_seed(number)


def parameters(net: object) -> list[list]:
    """Name and value of each parameter of a PyTorch net."""
    return [[name, _array(parameter).copy()] for name, parameter in net.named_parameters()]


def set_parameters(net: object, values: Sequence[np.ndarray]) -> None:
    """Give the parameters of a PyTorch net, in their order, these values."""
    torch = _torch()
    with torch.no_grad():
        for parameter, value in zip(net.parameters(), values, strict=True):
            parameter.copy_(torch.from_numpy(np.array(value)))


def predict(net: object, x: object, *, training: bool = False) -> object:
    """The output of a PyTorch net in evaluation mode, or in training mode."""
    with _torch().no_grad():
        return net.train(training)(x)


def gradients(net: object, x: object, y: object) -> list:
    """Of the mean cross-entropy by each parameter, in evaluation mode; zero where there is none."""
    torch = _torch()
    net.eval()
    for parameter in net.parameters():
        parameter.grad = None
    torch.nn.functional.cross_entropy(net(x), y).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in net.parameters()]


def fit(net: object, x: object, y: object, *, steps: int, learning_rate: float) -> None:
    """Steps of Adam on all samples at once, in evaluation mode, until nearly all is learnt."""
    torch = _torch()
    optimizer = torch.optim.Adam(net.parameters(), lr=learning_rate)
    net.eval()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        if loss.item() < 0.1:
            return


def run_script(part: str, flags: list[str], folder: str) -> dict[str, str | None]:
    """Run a part's train.py as the shell would; returns the texts of its run folder."""
    script = Path(sys.path[0], part, "train.py")
    sys.argv = [str(script), *flags, "--run_dir", folder]
    sys.path.insert(0, str(script.parent))
    with contextlib.suppress(SystemExit):  # a run that failed has left no result
        runpy.run_path(str(script), run_name="__main__")
    texts = {}
    for name in ("config.json", "history.csv", "result.json"):
        path = Path(folder, name)
        texts[name] = None
        if path.is_file():
            with path.open(errors="replace") as file:
                texts[name] = file.read(MAX_TEXT)
    return texts


def load_arrays(
    load: Callable, names: Sequence[str], *args: object, **kwargs: object
) -> dict[str, np.ndarray]:
    """Attributes, as arrays, of what a function returns; a named tuple has them, too."""
    dataset = load(*args, **kwargs)
    return {name: np.asarray(getattr(dataset, name)) for name in names}


ACTIONS = {
    action.__name__: action
    for action in (import_module, call, attribute, load_arrays, fill, keep_input, linear_layers,
                   seed, parameters, set_parameters, predict, gradients, fit, run_script)
}  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1])
    os._exit(0)  # at once; to take the libraries down would need seconds
