"""Bodies to be read, never run. A line that deserves a warning says `warned:` and the name of the call."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import os
import random
import secrets
import time
import uuid
from datetime import date, datetime, timedelta
from functools import partial
from random import choice
from typing import Any
from urllib.request import urlopen
from uuid import uuid4 as new_id

from django.core import mail
from django.core.mail import EmailMessage, mail_admins
from django.utils import timezone
from django.utils.crypto import get_random_string

from .. import models
from ..models import Effect
from .elsewhere import helper_elsewhere


def every_function(ctx: Any) -> None:
    random.random()  # warned: random.random
    random.randint(1, 6)  # warned: random.randint
    choice([1, 2])  # warned: random.choice
    random.Random()  # warned: random.Random
    random.SystemRandom()  # warned: random.SystemRandom
    new_id()  # warned: uuid.uuid4
    uuid.uuid1()  # warned: uuid.uuid1
    datetime.now()  # warned: datetime.datetime.now
    datetime.now(dt.UTC)  # warned: datetime.datetime.now
    dt.datetime.utcnow()  # warned: datetime.datetime.utcnow
    datetime.today()  # warned: datetime.datetime.today
    date.today()  # warned: datetime.date.today
    dt.date.today()  # warned: datetime.date.today
    timezone.now()  # warned: django.utils.timezone.now
    timezone.localtime()  # warned: django.utils.timezone.localtime
    time.time()  # warned: time.time
    time.monotonic()  # warned: time.monotonic
    time.perf_counter()  # warned: time.perf_counter
    time.sleep(1)  # warned: time.sleep
    os.urandom(8)  # warned: os.urandom
    secrets.token_hex()  # warned: secrets.token_hex
    secrets.choice([1, 2])  # warned: secrets.choice
    get_random_string(8)  # warned: django.utils.crypto.get_random_string


def nothing_wrong(ctx: Any, items: list[int]) -> Any:
    now, chance = ctx.now(), ctx.random.random()
    random.Random(7).random()
    timezone.localtime(now)
    timezone.localdate(now)
    uuid.uuid5(uuid.NAMESPACE_DNS, "name")
    datetime(2026, 1, 1)
    datetime.fromisoformat("2026-01-01")
    time.localtime(0)
    ctx.step("clock", timezone.now)
    ctx.step("chance", random.random)
    ctx.step("lambda", lambda: time.time())
    ctx.step("partial", partial(random.randint, 1, 6))
    ctx.step("partial of a lambda", functools.partial(lambda n: random.randint(1, n), 6))
    ctx.map("each", lambda item: (item, uuid.uuid4()), items)
    ctx.step("undo", charge, compensate=lambda _result: uuid.uuid4())
    ctx.sleep("nap", timedelta(days=1))
    return ctx.step("keyword", lambda: datetime.now(), atomic=True), chance


def charge() -> Any:
    return uuid.uuid4()


def arguments_are_body(ctx: Any) -> None:
    ctx.step("a", charge, uuid.uuid4())  # warned: uuid.uuid4
    ctx.step("b", partial(charge, random.random()))  # warned: random.random
    ctx.step("c", lambda at=datetime.now(): at)  # warned: datetime.datetime.now
    ctx.sleep_until("d", timezone.now() + timedelta(days=1))  # warned: django.utils.timezone.now
    ctx.wait_for("e", "event", key=str(new_id()))  # warned: uuid.uuid4
    ctx.map("f", charge, [random.random() for _ in range(3)])  # warned: random.random
    ctx.step(f"name {time.time()}", charge)  # warned: time.time


def nested_steps(ctx: Any) -> None:
    def step_function() -> Any:
        return helper_of_steps(), uuid.uuid4()

    def helper_of_steps() -> float:
        return random.random()

    async def step_too() -> None:
        await asyncio.sleep(1)

    ctx.step("a", step_function)
    ctx.step("b", partial(step_too))
    handed_on = [lambda: time.time(), step_function]
    for function in handed_on:
        ctx.step("c", function)
    callable(step_function)
    late = []
    late.append(lambda: uuid.uuid4())


def nested_bodies(ctx: Any, items: list[int]) -> Any:
    def helper() -> float:
        def inner() -> float:
            return time.time()  # warned: time.time

        return inner()

    def left(branch: Any) -> None:
        branch.step("a", charge)
        random.random()  # warned: random.random
        branch.step("b", lambda: random.random())

    def bound(branch: Any, number: int) -> None:
        new_id()  # warned: uuid.uuid4

    def never_called() -> Any:
        return uuid.uuid4()

    helper()
    ctx.gather(left=left, bound=partial(bound, number=1), right=lambda branch: time.time())  # warned: time.time
    ctx.race(**{str(item): lambda branch: uuid.uuid1() for item in items})  # warned: uuid.uuid1
    ctx.gather(module_level=branch_of_the_module)
    (lambda: time.time_ns())()  # warned: time.time_ns
    return sorted(items, key=lambda item: random.random())  # warned: random.random


def branch_of_the_module(branch: Any) -> None:
    random.shuffle([])  # warned: random.shuffle


def helpers_of_the_module(ctx: Any) -> None:
    part_of_the_body(ctx)
    part_of_the_body(ctx)
    helper_elsewhere(ctx)
    ctx.step("a", step_of_the_module)


def part_of_the_body(ctx: Any) -> None:
    ctx.step("a", charge)
    time.sleep(1)  # warned: time.sleep


def step_of_the_module() -> None:
    time.sleep(1)


async def asynchronous(ctx: Any) -> None:
    await asyncio.sleep(3)  # warned: asyncio.sleep
    await ctx.step("a", asyncio.sleep, 1)
    await ctx.sleep("b", 1)
    value = await ctx.step("c", charge, uuid.uuid4())  # warned: uuid.uuid4
    async with asyncio.timeout(1):
        time.time()  # warned: time.time
    await asynchronous_helper()


async def asynchronous_helper() -> None:
    await asyncio.sleep(0)  # warned: asyncio.sleep


def imports_of_its_own(ctx: Any) -> None:
    import datetime as clock
    import random as chance
    from secrets import token_urlsafe
    from time import sleep as wait
    from uuid import uuid4

    from django.utils.timezone import now

    clock.datetime.now()  # warned: datetime.datetime.now
    chance.random()  # warned: random.random
    token_urlsafe()  # warned: secrets.token_urlsafe
    wait(1)  # warned: time.sleep
    uuid4()  # warned: uuid.uuid4
    now()  # warned: django.utils.timezone.now
    ctx.step("a", lambda: uuid4())


def other_names(ctx: Any, items: list[int]) -> Any:
    now, clock, chance = timezone.now, time, lambda: random.random()
    today = date.today
    late = today
    roll = lambda: random.random()  # warned: random.random
    unrolled = lambda: random.random()
    rolled: Any = roll
    either = time.time
    either = ctx.now
    late()  # warned: datetime.date.today
    clock = clock or now or chance
    dice = random
    dice.choice(items)  # warned: random.choice
    ctx.step("a", unrolled)
    ctx.step("b", today)
    either()
    return roll(), rolled


def names_of_its_own(ctx: Any, random: Any, time: Any) -> Any:
    def uuid4() -> int:
        return 4

    random.random()
    time.time()
    new_id = ctx.uuid
    new_id("a")
    for datetime in [ctx]:
        datetime.now()
    with ctx as timezone:
        timezone.now()
    return uuid4()


def everywhere_in_a_statement(ctx: Any) -> Any:
    while time.time() < 0:  # warned: time.time
        pass
    if random.random() < 0.5:  # warned: random.random
        ctx.step("a", charge)
    try:
        found = {str(new_id()): 1}  # warned: uuid.uuid4
    except ValueError:
        time.sleep(1)  # warned: time.sleep
    finally:
        text = f"{date.today()}"  # warned: datetime.date.today
    match ctx.wait_for("b", "event"):
        case None:
            random.seed()  # warned: random.seed
    return [item for item in range(3) if random.random()]  # warned: random.random


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


@decorated
@decorated
def behind_decorators(
    ctx: Any,
    limit: int = 3,
) -> float:
    return random.random()  # warned: random.random


class Flows:
    """Bodies that are methods, and objects that can be called."""

    def method(self, ctx: Any) -> float:
        return time.time()  # warned: time.time

    @classmethod
    def of_the_class(cls, ctx: Any) -> float:
        return time.time()  # warned: time.time

    @staticmethod
    def static(ctx: Any) -> float:
        return time.time()  # warned: time.time

    def __call__(self, ctx: Any) -> float:
        return time.time()  # warned: time.time


def with_an_argument(number: int, ctx: Any) -> float:
    return random.random()  # warned: random.random


def made_by_a_function(sleep: Any) -> Any:
    def flow(ctx: Any) -> None:
        sleep(1)  # warned: time.sleep

    return flow


closure = made_by_a_function(time.sleep)
one_lambda = lambda ctx: time.time()  # warned: time.time
two_in_a_line = (lambda ctx: ctx.step("a", lambda: time.time()), lambda ctx: uuid.uuid4())  # warned: uuid.uuid4
bound_with_partial = partial(with_an_argument, 3)


def acting(ctx: Any, name: str) -> None:
    Effect.objects.create(name=name)  # warned: Effect.objects.create
    models.Effect.objects.filter(name=name).exclude(value="").update(value="x")  # warned: Effect.objects.update
    Effect.objects.all().delete()  # warned: Effect.objects.delete
    Effect.objects.get_or_create(name=name)  # warned: Effect.objects.get_or_create
    effect = Effect.objects.filter(name=name).first()
    effect.value = "y"
    effect.save()  # warned: Effect.save
    Effect(name=name).save()  # warned: Effect.save
    made = Effect(name=name)
    made.save(force_insert=True)  # warned: Effect.save
    for one in Effect.objects.order_by("name"):
        one.delete()  # warned: Effect.delete
    mail.send_mail("subject", "body", None, ["to@example.com"])  # warned: django.core.mail.send_mail
    mail_admins("subject", "body")  # warned: django.core.mail.mail_admins
    EmailMessage("subject").send()  # warned: EmailMessage.send
    message = mail.EmailMultiAlternatives("subject")
    message.send(fail_silently=True)  # warned: EmailMultiAlternatives.send
    with urlopen("https://example.com") as answer:  # warned: urllib.request.urlopen
        answer.read()


async def acting_async(ctx: Any, name: str) -> None:
    from ..models import Effect as Deed

    await Deed.objects.acreate(name=name)  # warned: Effect.objects.acreate
    deed = await Deed.objects.aget(name=name)
    await deed.adelete()  # warned: Effect.adelete
    async for one in Deed.objects.filter(name=name):
        await one.asave()  # warned: Effect.asave


def only_reading(ctx: Any, name: str, order: Any, client: Any) -> Any:
    def write() -> None:
        Effect.objects.create(name=name)
        mail_admins("subject", "body")

    effect = Effect.objects.get(name=name)
    effect.refresh_from_db()
    Effect.objects.filter(name=name).values_list("value").count()
    names = {"a": 1}
    names.update(b=2)
    order.save()
    client.post("https://example.com")
    either = Effect(name=name)
    either = order
    either.save()
    unsaved = EmailMessage("subject")
    ctx.step("create", Effect.objects.create)
    ctx.step("lambda", lambda: Effect.objects.create(name=name))
    ctx.step("save", effect.save)
    ctx.step("write", write)
    ctx.step("fetch", urlopen, "https://example.com")
    ctx.step("mail", unsaved.send)
    return effect.value
