"""`roadstead models`, `nodes`, `plan` and `what-if`: the read API's answers as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from roadstead.api import answers
from roadstead.cli.tables import add_row, colour, coloured, new_table, or_unknown, part_of, print_origin, size_words
from roadstead.domain.quantity import in_words


def print_models(told: answers.ModelList, console: Console) -> None:
    """A row each."""
    if not told.items:
        console.print("No models. Apply a LocalModel with kubectl.", highlight=False)
        return
    table = new_table("NAMESPACE", "NAME", "STATUS", "READY", "RELEASE", "VARIANTS", "NODES", "MESSAGE")
    for row in told.items:
        add_row(
            table,
            row.namespace,
            row.name,
            coloured(row.status),
            f"{row.ready}/{row.wanted}",
            str(row.release or ""),
            ", ".join(row.variants),
            ", ".join(row.nodes),
            row.message,
        )
    console.print(table)
    print_origin(told, console)


def print_nodes(told: answers.NodeList, console: Console) -> None:
    """A row each: what it has, and what runs there."""
    if not told.items:
        console.print("No nodes.", highlight=False)
        return
    with_devices = any(node.devices for node in told.items)
    gpus = ("GPUS",) if with_devices else ()
    table = new_table("NODE", "POOL", "CELL", "CORES", "MEMORY FREE", *gpus, "DISK FREE", "RUNS", "REMARKS")
    for node in told.items:
        add_row(
            table,
            node.name,
            node.pool,
            node.cell,
            or_unknown(node.cores),
            part_of(node.memory_free_bytes, node.memory_budget_bytes),
            *((_devices(node.devices),) if with_devices else ()),
            size_words(node.disk_free_bytes),
            "\n".join(f"{slot.model} {slot.variant} {slot.ready}/{slot.replicas}" for slot in node.slots),
            Text("\n").join(_remarks(node)),
        )
    console.print(table)
    print_origin(told, console)


def print_plan(told: answers.PlanAnswer, console: Console, *, actions: bool) -> None:
    """Why each model runs what it runs where, what was refused, and what is done next."""
    for model in told.models:
        _print_model(model, console)
    if actions:
        _print_actions(told.actions, console)
        _print_silent_parts(told, console)
    print_origin(told, console)


def print_what_if(told: answers.WhatIfAnswer, console: Console) -> None:
    """A row for each model that would fare otherwise."""
    if told.models:
        table = new_table("NAMESPACE", "NAME", "STOPS", "STARTS", "WITHOUT A PLACE", "WHY")
        for model in told.models:
            add_row(
                table,
                model.namespace,
                model.name,
                _placed(model.stops),
                _placed(model.starts),
                Text(_pending(model), style="red" if model.pending_then > model.pending else ""),
                model.why.replace("; ", "\n"),
            )
        console.print(table)
    others = "No model" if not told.models else "No other model"
    console.print(f"{others} would fare otherwise ({told.unchanged} stay as they are).", highlight=False)
    print_origin(told, console)


def _placed(places: Sequence[answers.Place]) -> str:
    return "\n".join(f"{each.replicas} × {each.variant} on {each.node}" for each in places)


def _pending(model: answers.Difference) -> str:
    """As it is and as it would be; nothing where nothing waits for a place."""
    if model.pending == model.pending_then:
        return str(model.pending or "")
    return f"{model.pending} → {model.pending_then}"


def _print_model(model: answers.ModelDetail, console: Console) -> None:
    release = f", release {model.release}" if model.release is not None else ""
    count = f"{model.ready} of {model.wanted} replicas answer"
    console.print(
        Text.assemble(
            (f"{model.namespace}/{model.name}", "bold"),
            f"  {count}{release}  ",
            (model.status, colour(model.status)),
        )
    )
    if model.message != count:
        console.print(Text(f"  {model.message}"))
    if model.ladder:
        table = new_table("  VARIANT", "QUALITY", "SIZE", "CHOSEN", "VERDICT", "WHY")
        for variant in model.ladder:
            add_row(
                table,
                f"  {variant.name}",
                _quality(variant),
                size_words(variant.bytes or None),
                str(variant.chosen or ""),
                coloured(variant.verdict),
                variant.message.replace("; ", "\n"),
            )
        console.print(table)
    if model.slots:
        table = new_table("  NODE", "VARIANT", "READY", "WEIGHT", "MEMORY", "STATE", "MESSAGE")
        for slot in model.slots:
            memory = slot.memory_measured_bytes or slot.memory_estimated_bytes
            add_row(
                table,
                f"  {slot.node}",
                slot.variant,
                f"{slot.ready}/{slot.replicas}",
                str(slot.weight),
                f"{in_words(memory)}{'' if slot.memory_measured_bytes else ' (estimated)'}",
                coloured(slot.state),
                slot.message,
            )
        console.print(table)
    console.print()


def _quality(variant: answers.Variant) -> str:
    """``0.985 measured``."""
    if variant.quality is None:
        return ""
    return f"{variant.quality:g} {(variant.quality_origin or '').lower()}".rstrip()


def _print_actions(actions: Sequence[answers.Action], console: Console) -> None:
    if not actions:
        console.print("Nothing is to be done: the fleet is as planned.", highlight=False)
        return
    table = new_table("NEXT", "ON", "WHAT")
    for action in actions:
        add_row(table, action.kind, action.object, action.message)
    console.print(table)


def _print_silent_parts(told: answers.PlanAnswer, console: Console) -> None:
    parts = [(f"cell {name}", source) for name, source in told.cells.items()]
    parts += [(f"gateway {name}", source) for name, source in told.gateways.items()]
    for name, source in (*parts, ("ledger", told.ledger)):
        if source.state != "Known":
            console.print(Text.assemble((f"{name}: ", "bold"), (_source_words(source), "yellow")))


def _devices(devices: Sequence[answers.Device]) -> str:
    """A line for those that are alike: how many, what, and of each the memory and what is free of it."""
    alike: dict[tuple[str, str, int], list[int | None]] = {}
    for device in devices:
        alike.setdefault((device.product, device.mig_profile, device.memory_bytes), []).append(device.free_bytes)
    return "\n".join(
        f"{len(free)} × {' '.join(filter(None, (product, profile)))} {in_words(memory)}{_free_of_each(free)}"
        for (product, profile, memory), free in alike.items()
    )


def _free_of_each(free: Sequence[int | None]) -> str:
    told = sorted(each for each in free if each is not None)
    if not told:
        return ""
    least, most = in_words(told[0]), in_words(told[-1])
    return f", {most} free" if least == most else f", {least} to {most} free"


def _remarks(node: answers.Node) -> Iterable[Text]:
    if not node.ready:
        yield Text("not Ready", style="red")
    if node.unschedulable:
        yield Text("cordoned", style="yellow")
    yield from (Text(f"taint {taint}") for taint in node.taints)
    yield from (Text(ambiguity, style="yellow") for ambiguity in node.ambiguities)
    if node.agent.state != "Known":
        yield Text(f"agent: {_source_words(node.agent)}", style="yellow")
    if node.cell_source.state != "Known":
        yield Text(f"cell: {_source_words(node.cell_source)}", style="yellow")
    for weights in node.weights:
        if weights.phase == "Fetching":
            yield Text(f"fetching {part_of(weights.bytes_done, weights.bytes_total)}")
        elif weights.phase == "Failed":
            yield Text(weights.code, style="red")
    yield from (Text(f"{pod.role} {pod.name} not Ready") for pod in node.pods if not pod.ready)


def _source_words(source: answers.Source) -> str:
    if source.state == "Stale" and source.since is not None:
        return f"silent since {source.since:%H:%M:%S} UTC"
    return source.why or source.state
