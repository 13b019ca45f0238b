"""The function of every Tune trial: it asks for no CPU, the work happens in the slot.

What it reports is a `Message`, read by `service.driver.searcher` in the driver.
"""

from typing import Any

import ray
from ray import tune

from service.slots.following import follow
from service.slots.messages import Ticket

MESSAGE = "message"


def train_in_slot(config: dict[str, Any]) -> None:
    """The function of every Tune trial; `config["ticket"]` is its `Ticket`."""
    ticket: Ticket = config["ticket"]
    board = ray.get_actor(ticket.board, namespace=ticket.namespace)
    for message in follow(board, ticket, get=ray.get):
        tune.report({MESSAGE: message})
