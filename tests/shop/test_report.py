"""What the demo tells of the mails that were sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.mail import EmailMessage
from django.core.mail.backends.filebased import EmailBackend

import report

pytestmark = pytest.mark.once


def test_mails_that_share_a_file_are_told_one_by_one(tmp_path: Path) -> None:
    """Django names a file by the second and an object's address, which two mails of one second may have."""
    backend = EmailBackend(file_path=str(tmp_path))
    for number in (2, 4):
        backend.send_messages([EmailMessage(f"Order {number}", "Yes?", to=["manager@example.com"])])
        backend.close()
    assert len(list(tmp_path.iterdir())) == 1
    told = [line.split() for line in report.mails(tmp_path).splitlines()]
    assert told[-2:] == [["manager@example.com", "Order", "2"], ["manager@example.com", "Order", "4"]]
