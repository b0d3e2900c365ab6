"""Inside other people's training: callbacks that look at a model while it is trained.

Imported when asked for.
"""

from transect import publish

publish(
    __name__,
    lambda: {
        "TransectCallback": "transect.integrations.trainer:TransectCallback",
        "LightningCallback": "transect.integrations.lightning:LightningCallback",
        "Watch": "transect.integrations.watch:Watch",
    },
)
