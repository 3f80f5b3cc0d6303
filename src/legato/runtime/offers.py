"""What this server offers: its tools and its models, as clients list them."""

from __future__ import annotations

from datetime import datetime

from legato.core.views import ModelEntry, ModelPage, Prices, ToolPage, ToolView
from legato.ports import ModelInfo, Models, Tools


def tool_page(tools: Tools) -> ToolPage:
    registered = (tools.get(name) for name in tools.names())
    return ToolPage(
        data=tuple(
            ToolView(
                name=tool.spec.name,
                description=tool.spec.description,
                input_schema=tool.spec.input_schema,
                effect=tool.effect,
                needs_approval=tool.needs_approval,
                timeout=tool.timeout,
                source=tool.source,
            )
            for tool in registered
            if tool is not None
        )
    )


def model_page(models: Models) -> ModelPage:
    data = tuple(_entry(info) for info in models.all())
    return ModelPage(data=data, first_id=data[0].id if data else None, last_id=data[-1].id if data else None)


def _entry(info: ModelInfo) -> ModelEntry:
    takes = ("tools", "images", "files", "thinking")
    return ModelEntry(
        id=f"{info.provider}/{info.id}",
        created=int(datetime.fromisoformat(info.created).timestamp()),
        owned_by=info.provider,
        display_name=info.display_name,
        created_at=info.created,
        context=info.context,
        max_output=info.max_output,
        prices=Prices(input=info.input_price, output=info.output_price),
        takes=("text", *(kind for kind in takes if getattr(info, kind))),
    )
