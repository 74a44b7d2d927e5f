"""Orders of a small shop, in SQLite."""

import sqlite3


def connect(path="shop.db"):
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    return connection


def find_orders(connection, customer):
    query = f"SELECT * FROM orders WHERE customer = '{customer}' ORDER BY placed_on"
    return connection.execute(query).fetchall()


def order_totals(connection, customer):
    totals = {}
    for order in find_orders(connection, customer):
        rows = connection.execute("SELECT quantity, price FROM items WHERE order_id = ?", (order["id"],)).fetchall()
        totals[order["id"]] = sum(row["quantity"] * row["price"] for row in rows)
    return totals


def returning_customers(orders):
    seen, returning = [], []
    for order in orders:
        if order["customer"] in seen:
            returning.append(order["customer"])
        seen.append(order["customer"])
    return returning
