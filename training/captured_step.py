"""The gradient of a small net without the cost of autograd's bookkeeping.

A step of a 2-20-2 net is some twenty tiny operations; recording them for differentiation, walking
the record backwards and dispatching each costs many times the arithmetic. Autograd's work is the
same at every step, so here it is done once: the forward and backward operations are traced into a
straight list, which is then replayed on each batch. The first replay is compared with autograd.
"""

from collections.abc import Callable

import torch
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

# Operations without an effect on the numbers: they can be passed through.
_IDENTITIES = ("alias", "detach")
# Layers whose forward pass draws nothing at random and changes no buffer.
MAX_PARAMETERS = 50_000  # above, the arithmetic outweighs the bookkeeping
_REPLAYABLE = (nn.Linear, nn.ReLU, nn.GELU, nn.SiLU, nn.Flatten)

Gradient = Callable[..., tuple[torch.Tensor, ...]]


def is_replayable(net: nn.Module) -> bool:
    """Whether the net is small, on the CPU, and does the same operations at every step."""
    parameters = list(net.parameters())
    if sum(p.numel() for p in parameters) > MAX_PARAMETERS or parameters[0].device.type != "cpu":
        return False
    leaves = [module for module in net.modules() if not list(module.children())]
    return all(isinstance(module, _REPLAYABLE) for module in leaves)


def capture_gradient(
    net: nn.Module,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
) -> Gradient | None:
    """Trace the gradient of loss(net(x), y) with respect to the net's parameters.

    Returns:
        a function of (x, y, *parameters), for batches of this very shape, that returns a gradient
        for each parameter; None if the replay does not give what autograd gives.
    """
    names = [name for name, _ in net.named_parameters()]
    parameters = [parameter.detach() for parameter in net.parameters()]

    def by_autograd(x, y, *values):
        values = [value.detach().requires_grad_() for value in values]
        with torch.enable_grad():
            named = dict(zip(names, values, strict=True))
            logits = torch.func.functional_call(net, named, (x,))
            return torch.autograd.grad(loss(logits, y), values)

    module = make_fx(by_autograd)(x, y, *parameters)
    _simplify(module.graph)
    module.recompile()
    replay = module.forward
    expected, got = by_autograd(x, y, *parameters), replay(x, y, *parameters)
    same = all(torch.allclose(a, b) for a, b in zip(expected, got, strict=True))
    return replay if same else None


def _simplify(graph: fx.Graph) -> None:
    """Drop operations that change nothing, and call the others through their fastest binding."""
    for node in list(graph.nodes):
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        name = node.target._schema.name.removeprefix("aten::")
        source = node.args[0] if node.args else None
        if name in _IDENTITIES:
            node.replace_all_uses_with(source)
        elif name == "t" and getattr(source, "target", None) in (node.target, torch.t):
            node.replace_all_uses_with(source.args[0])  # transposed twice
        elif name == "ones_like":  # of the scalar loss
            node.target, node.kwargs = torch.ones_like, {}
        elif name == "view":
            node.target = torch.Tensor.view
        elif hasattr(torch, name):
            node.target = getattr(torch, name)
    graph.eliminate_dead_code()
