"""Invoices that are priced by code which a test deploys, and deploys anew: a module `rates` beside no other.

Imported by `tests.workflows`; a worker finds `rates` on its PYTHONPATH.
"""

from __future__ import annotations

from pathlib import Path

from canx_flow import Context, Retry, workflow

from ..processes import ROOT

#: Fails for a name that is written otherwise than here.
BROKEN = """RATES = {"ada": 80, "grace": 95}


def price(customer, hours):
    return RATES[customer] * hours
"""
MENDED = BROKEN.replace("RATES[customer]", "RATES[customer.lower()]")


@workflow("billing", retry=Retry(max_attempts=2, initial=0.1, jitter=0))
def billing(ctx: Context, customer: str, hours: int) -> int:
    """Number an invoice, price the hours, send it."""
    number = ctx.step("number-invoice", _next_number)
    total = ctx.step("price-hours", _price, customer, hours)
    ctx.step("send-invoice", _send, number, total)
    return total


def deploy(folder: Path, code: str) -> dict[str, str]:
    """Put this code where workers that are started with the answer in their environment find it."""
    (folder / "rates.py").write_text(code)
    # Two releases within a second are of one size and age to Python: it must not take one's bytecode for the other's.
    return {"PYTHONPATH": f"{ROOT}:{folder}", "PYTHONDONTWRITEBYTECODE": "1"}


def _next_number() -> str:
    return "2026-0417"


def _price(customer: str, hours: int) -> int:
    import rates

    price: int = rates.price(customer, hours)
    return price


def _send(number: str, total: int) -> str:
    return f"invoice {number} over {total} €"
