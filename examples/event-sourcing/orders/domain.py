"""The events of an order, the state that they add up to, and the rules: pure functions, nothing to do with Kafka."""

import json
from dataclasses import asdict, dataclass
from typing import Iterable, Optional, Union


@dataclass(frozen=True)
class OrderCreated:
    order_id: str
    customer: str
    amount: int


@dataclass(frozen=True)
class OrderPaid:
    order_id: str
    payment: str


@dataclass(frozen=True)
class OrderShipped:
    order_id: str
    parcel: str


Event = Union[OrderCreated, OrderPaid, OrderShipped]
EVENTS = {kind.__name__: kind for kind in (OrderCreated, OrderPaid, OrderShipped)}


def to_json(event: Event) -> bytes:
    """An event as the log keeps it."""
    return json.dumps({"type": type(event).__name__, **asdict(event)}).encode()


def from_json(value: bytes) -> Event:
    """The event that `to_json` wrote."""
    fields = json.loads(value)
    return EVENTS[fields.pop("type")](**fields)


@dataclass(frozen=True)
class Order:
    """What an order's events add up to. `version` is the offset of the last of them."""

    order_id: str
    customer: str
    amount: int
    status: str
    version: int


def apply(order: Optional[Order], event: Event, offset: int) -> Order:
    """The state after an event. Events are facts: nothing is refused here, and one that is in it already changes nothing."""
    if order and offset <= order.version:
        return order
    if isinstance(event, OrderCreated):
        return Order(event.order_id, event.customer, event.amount, "created", offset)
    status = "paid" if isinstance(event, OrderPaid) else "shipped"
    return Order(order.order_id, order.customer, order.amount, status, offset)


def replay(orders: dict, events: Iterable) -> dict:
    """Applies `(offset, event)` pairs, in their order, to orders by id."""
    for offset, event in events:
        orders[event.order_id] = apply(orders.get(event.order_id), event, offset)
    return orders


class Rejected(Exception):
    """A command that the state does not allow."""


def create(order: Optional[Order], order_id: str, customer: str, amount: int) -> OrderCreated:
    """Decides about a new order."""
    if order:
        raise Rejected(f"{order_id} exists already")
    if amount <= 0:
        raise Rejected(f"{amount} is no amount to pay")
    return OrderCreated(order_id, customer, amount)


def pay(order: Optional[Order], order_id: str, payment: str) -> OrderPaid:
    """Decides about a payment."""
    _must_be(order, order_id, "created")
    return OrderPaid(order_id, payment)


def ship(order: Optional[Order], order_id: str, parcel: str) -> OrderShipped:
    """Decides about a shipment."""
    _must_be(order, order_id, "paid")
    return OrderShipped(order_id, parcel)


def _must_be(order: Optional[Order], order_id: str, status: str) -> None:
    if not order:
        raise Rejected(f"there is no order {order_id}")
    if order.status != status:
        raise Rejected(f"{order_id} is {order.status}, not {status}")
