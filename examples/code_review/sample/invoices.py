"""Invoices as files, and their dispatch."""

import urllib.request
from pathlib import Path

INVOICES = Path("/var/shop/invoices")
MAIL_TOKEN = "mt-live-4f9c1e7a20"


def read_invoice(name):
    return (INVOICES / name).read_bytes()


def send_invoice(name, recipient):
    request = urllib.request.Request(
        f"https://mail.example.org/send?to={recipient}",
        data=read_invoice(name),
        headers={"Authorization": f"Bearer {MAIL_TOKEN}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status == 202
