"""Every table of the project, declared once: its columns, their meaning, and how it is partitioned.

In the lake a price, size or sum of money is an int64 of millionths (:class:`Kind.MICRO`), which the engine
reads as it is. In SQL the same column is an exact ``DECIMAL(18, 6)`` of dollars or contracts. Times are
``timestamp[us, UTC]`` and ``TIMESTAMPTZ``.
"""

from typing import Final

from pm_pipeline.errors import UsageError, did_you_mean
from pm_pipeline.warehouse.columns import Column, Encoding, Kind, PartitionedBy, Table

SCHEMA_VERSION: Final = 4
"""Version of all declarations below; every step in :mod:`pm_pipeline.warehouse.migrations` adds one."""

_NONE: Final = -(2**63)
"""Stands for null in a file; no price or size is near it."""


def _text(name: str, meaning: str) -> Column:
    return Column(name, Kind.TEXT, meaning)


def _maybe(name: str, kind: Kind, meaning: str) -> Column:
    return Column(name, kind, meaning, nullable=True)


def _date(name: str, meaning: str, *, nullable: bool = True) -> Column:
    """A time that is not the table's clock: many rows share it, and it jumps from row to row."""
    return Column(name, Kind.TIME, meaning, nullable, Encoding.DICTIONARY)


_MARKET_KEY: Final = _text("market_key", "venue:native_id")
_OUTCOME: Final = Column("outcome_index", Kind.INT, "which outcome of the market, from 0")
_OBSERVED: Final = (
    Column("ts", Kind.TIME, "when it was true"),
    Column("known_at", Kind.TIME, "when an outsider could first have known it"),
    Column("ingested_at", Kind.TIME, "when we read it"),
)
_KNOWN: Final = _OBSERVED[1:]
_STRATEGY: Final = _text("strategy", "registered name of the strategy")
_RUN: Final = _text("run_id", "the run that wrote the row; see backtest.runs")
_SCENARIO: Final = _text("scenario", "pessimistic, base or optimistic")

_DECLARED: Final = (
    Table(
        "catalog.markets",
        "Markets as their venues list them; one partition per day on which the catalog was read.",
        PartitionedBy.DAY,
        (
            _MARKET_KEY,
            _text("venue", "polymarket, kalshi or alpaca"),
            _text("native_id", "the venue's own id"),
            _text("question", "what is asked"),
            _maybe("slug", Kind.TEXT, "the venue's readable id"),
            _maybe("condition_id", Kind.TEXT, "Polymarket condition id"),
            _maybe("question_id", Kind.TEXT, "Polymarket question id"),
            _maybe("event_id", Kind.TEXT, "event that the market belongs to (Gamma id, Kalshi event ticker)"),
            _maybe("event_title", Kind.TEXT, "title of that event"),
            _maybe("series", Kind.TEXT, "series of events (Kalshi series ticker, Gamma series slug)"),
            _maybe("category", Kind.TEXT, "the venue's category"),
            Column("tags", Kind.TEXTS, "the venue's tags"),
            _maybe("group_key", Kind.TEXT, "the set of markets that settles together"),
            Column("exclusive_group", Kind.FLAG, "exactly one market of the group pays"),
            _date("opened_at", "start of trading"),
            _date("scheduled_close", "announced end of trading"),
            _text("schedule_evidence", "listed, or hindsight: see markets.market.ScheduleEvidence"),
            Column("tick_starts", Kind.MICROS, "price grid: start of each range"),
            Column("tick_ends", Kind.MICROS, "price grid: end of each range"),
            Column("tick_steps", Kind.MICROS, "price grid: step within each range"),
            Column("min_order_size", Kind.MICRO, "smallest order, contracts"),
            _maybe("fee_rate", Kind.TEXT, "rate of the market's own fee schedule, as decimal text"),
            _maybe("fee_exponent", Kind.INT, "exponent of that schedule"),
            _maybe("fee_taker_only", Kind.FLAG, "whether makers are free"),
            _maybe("fee_rebate_rate", Kind.TEXT, "share of the fee that makers get, as decimal text"),
            _maybe("volume", Kind.MICRO, "dollars traded when the catalog was read (later knowledge)"),
            _date("traded_until", "end of trading when the catalog was read (later knowledge)"),
            _maybe("rules_text", Kind.TEXT, "the rules as printed"),
            _maybe("rules_sha256", Kind.TEXT, "hash of the rules, to see them change"),
            _maybe("resolution_source", Kind.TEXT, "who decides"),
            *_KNOWN,
        ),
        ("market_key",),
    ),
    Table(
        "catalog.instruments",
        "The outcomes of each market and the venue's names for them.",
        PartitionedBy.DAY,
        (
            _MARKET_KEY,
            _OUTCOME,
            _text("label", "name of the outcome"),
            _maybe("token_id", Kind.TEXT, "the venue's id of the outcome"),
            *_KNOWN,
        ),
        ("market_key", "outcome_index"),
    ),
    Table(
        "catalog.resolutions",
        "How each market ended. Kept from strategies: read by settlement, research and reports only.",
        PartitionedBy.MARKET,
        (
            _MARKET_KEY,
            _text("status", "open, closed, pending, disputed, resolved or void"),
            _maybe(
                "payouts", Kind.MICROS, "dollars per contract and outcome; null until decided, and if void"
            ),
            _maybe("closed_at", Kind.TIME, "when trading truly ended"),
            _maybe("resolved_at", Kind.TIME, "when the money moved"),
            Column("was_disputed", Kind.FLAG, "whether somebody objected"),
            _text("source", "who says so"),
            *_KNOWN,
        ),
        ("market_key", "known_at"),
    ),
    Table(
        "catalog.rules",
        "Dated rules of the venues: fees, ticks, delays, settlement sources, each with its source.",
        PartitionedBy.WHOLE,
        (
            _text("rule", "fee_schedule, tick_rule, venue_delay or settlement_source"),
            _text("venue", "polymarket, kalshi or alpaca"),
            _text("scope", "what it applies to: category, series or market; * for all"),
            _date("valid_from", "first moment", nullable=False),
            _date("valid_to", "first moment at which it no longer holds; null: still valid"),
            _text("value", "the rule itself, as JSON"),
            _text("source", "where it is stated"),
        ),
        ("rule", "venue", "scope", "valid_from"),
    ),
    Table(
        "catalog.listed_fees",
        "Fees as the venue states them on series, events and markets; one partition per day of reading.",
        PartitionedBy.DAY,
        (
            _text("venue", "polymarket, kalshi or alpaca"),
            _text("scope", "what it applies to: series:<ticker>, event:<ticker> or market:<key>"),
            _text("fee_type", "the venue's name of the fee structure"),
            _text("multiplier", "factor on the fees of that structure, as decimal text; 0: waived"),
            _date("valid_from", "first moment", nullable=False),
            _date("valid_to", "first moment at which it no longer holds; null: no end is listed"),
            _text("source", "where it is stated"),
            *_KNOWN,
        ),
        ("scope", "valid_from"),
    ),
    Table(
        "market_data.prices",
        "Mid points, and bid and ask where the venue gives them. A mid cannot be traded.",
        PartitionedBy.MARKET,
        (
            _MARKET_KEY,
            _OUTCOME,
            *_OBSERVED,
            _maybe("mid", Kind.MICRO, "half-way between bid and ask"),
            _maybe("bid", Kind.MICRO, "best bid; null: not given, or nobody bids"),
            _maybe("ask", Kind.MICRO, "best offer; null: not given, or nobody offers"),
            Column("resolution_s", Kind.INT, "seconds that one point stands for; 0: a single observation"),
            _text("source", "endpoint that said so"),
        ),
        ("outcome_index", "ts"),
    ),
    Table(
        "market_data.candles",
        "Candlesticks of bid, ask and trades; ts is the end of the candle.",
        PartitionedBy.MARKET,
        (
            _MARKET_KEY,
            _OUTCOME,
            *_OBSERVED,
            Column("period_s", Kind.INT, "length in seconds"),
            *(
                _maybe(f"{what}_{point}", Kind.MICRO, f"{point} of the {what}")
                for what in ("bid", "ask", "price")
                for point in ("open", "high", "low", "close")
            ),
            Column("volume", Kind.MICRO, "contracts traded"),
            _maybe("open_interest", Kind.MICRO, "contracts outstanding at the end"),
        ),
        ("outcome_index", "period_s", "ts"),
    ),
    Table(
        "market_data.trades",
        "Taker executions; rows that are alike are kept, told apart by their ordinal.",
        PartitionedBy.MARKET,
        (
            _MARKET_KEY,
            _OUTCOME,
            *_OBSERVED,
            _text("trade_id", "the venue's id, or the transaction"),
            Column("ordinal", Kind.INT, "counts rows that are alike in all else"),
            Column(
                "price", Kind.MICRO, "dollars per contract; the average of the taker's match", listed=True
            ),
            Column("size", Kind.MICRO, "contracts"),
            _text("side", "what the taker did with this outcome: buy or sell"),
            _text("side_evidence", "onchain, feed or inferred"),
            _maybe("wallet", Kind.TEXT, "the taker's address, where public"),
            Column("is_block", Kind.FLAG, "negotiated off the book; never simulate against it"),
        ),
        ("ts", "trade_id", "ordinal"),
        hot=("outcome_index", "ts", "known_at", "price", "size", "side", "is_block"),
    ),
    Table(
        "market_data.wallet_fills",
        "Fills as the chain recorded them, a row per order and match. Volume is where counts_volume is true.",
        PartitionedBy.MARKET,
        (
            _MARKET_KEY,
            _OUTCOME,
            *_OBSERVED,
            _maybe("block", Kind.COUNT, "number of the block; null: the source does not say"),
            _maybe("log_index", Kind.INT, "place of the log in its block; null: the source does not say"),
            Column("tx", Kind.HASH, "hash of the transaction"),
            Column("order_hash", Kind.HASH, "hash of the order that was filled"),
            Column("wallet", Kind.ADDRESS, "owner of that order"),
            _text("role", "taker: the active order of the match; maker: an order that rested"),
            _text("side", "what the wallet did with this outcome: buy or sell"),
            _text(
                "side_evidence",
                "who took: onchain, the exchange names the active order; inferred: it does not",
            ),
            _maybe("price", Kind.MICRO, "cash / size, to the nearest millionth, ties to even; null: no size"),
            Column("size", Kind.MICRO, "contracts"),
            Column("cash", Kind.MICRO, "dollars that changed hands for them, without the fee"),
            Column("fee", Kind.MICRO, "fee in the log; V1 refunded part of it afterwards"),
            _text("fee_unit", "what the fee is counted in: dollars or contracts"),
            _text("balance", "amounts of the match: exact, refund, broken or alone; see docs/polymarket.md"),
            Column("counts_volume", Kind.FLAG, "its rows sum to what was traded, every match once"),
            _text(
                "source", "where the log was read, and the contract: goldsky:v1, rpc:v2, file:v2-neg-risk …"
            ),
        ),
        ("ts", "log_index", "tx", "order_hash"),
    ),
    Table(
        "market_data.book_events",
        "The order book of outcome 0 as a log: resets, levels set to an absolute size, gaps.",
        PartitionedBy.MARKET,
        (
            _MARKET_KEY,
            *_OBSERVED,
            Column("seq", Kind.COUNT, "order within the market; rows of one venue message share it"),
            _text("kind", "reset: the book is emptied and rebuilt by the levels of this seq; level; gap"),
            Column("side", Kind.TEXT, "bid or ask (of outcome 0); null for reset and gap", True, absent=""),
            Column("price", Kind.MICRO, "dollars per contract", True, listed=True, absent=_NONE),
            Column("size", Kind.MICRO, "contracts now at this price; 0: none", True, absent=_NONE),
        ),
        ("seq",),
        hot=("seq", "kind", "side", "price", "size"),
    ),
    Table(
        "backtest.runs",
        "One row per run: what was asked, of which code and data, and how it ended.",
        PartitionedBy.RUN,
        (
            _RUN,
            Column("started_at", Kind.TIME, "start"),
            _maybe("finished_at", Kind.TIME, "end"),
            _text("status", "success or failure"),
            _text("world", "LIVE, SANDBOX or ARCHIVE: where the data came from"),
            _text("config", "the whole configuration, as JSON"),
            Column("seed", Kind.COUNT, "seed of everything random"),
            _text("code_version", "version of the package and hash of its sources"),
            _text("data_fingerprint", "hash over the input partitions"),
        ),
        ("run_id",),
    ),
    Table(
        "backtest.signals",
        "What a strategy wanted, when, and the latest thing it knew.",
        PartitionedBy.STRATEGY_MARKET,
        (
            _STRATEGY,
            _MARKET_KEY,
            _OUTCOME,
            Column("ts", Kind.TIME, "decision time"),
            Column("inputs_known_at", Kind.TIME, "latest known_at that was used; never after ts"),
            _text("action", "enter, exit, quote (an order shall rest), cancel, split or merge (full sets)"),
            _maybe("p_hat", Kind.STAT, "the strategy's probability for this outcome"),
            _maybe("p_se", Kind.STAT, "standard error of that probability"),
            _maybe("p_market", Kind.STAT, "the market's mid for this outcome at the same time"),
            _maybe("limit_price", Kind.MICRO, "worst price accepted"),
            _maybe("stake", Kind.MICRO, "dollars to spend, fees included; null: the run's stake"),
            _maybe("stop_price", Kind.MICRO, "leave when the bid is at or below"),
            _maybe("target_price", Kind.MICRO, "leave when the bid is at or above"),
            _maybe("trailing", Kind.MICRO, "leave when the bid falls this far below its peak"),
            _maybe("exit_at", Kind.TIME, "leave at this time"),
            _text("tag", "why, in a word"),
            Column("all_or_none", Kind.FLAG, "an entry that fills whole or not at all"),
            _text("name", "of a quote: what the strategy calls the order"),
            _text("side", "of a quote: buy or sell"),
            _maybe("size", Kind.MICRO, "of a quote: contracts still to be filled; of sets: how many"),
            Column("post_only", Kind.FLAG, "of a quote: it never takes"),
            _maybe("expires_at", Kind.TIME, "of a quote: when it ends by itself"),
            _RUN,
        ),
        ("ts", "outcome_index"),
    ),
    Table(
        "backtest.orders",
        "Orders that reached the venue, and what became of them.",
        PartitionedBy.STRATEGY_MARKET,
        (
            _STRATEGY,
            _SCENARIO,
            _MARKET_KEY,
            _OUTCOME,
            _text("order_id", "deterministic: strategy, market, decision time, number"),
            Column("decided_at", Kind.TIME, "decision time"),
            Column("arrived_at", Kind.TIME, "when the venue had it: decision plus latency"),
            _text("side", "buy or sell"),
            _text("reason", "signal, stop, target, trailing, time, quote or set"),
            Column("size", Kind.MICRO, "contracts asked for"),
            Column("filled", Kind.MICRO, "contracts filled"),
            _maybe("limit_price", Kind.MICRO, "worst price accepted"),
            _text("ended", "filled, or the code of the reason why it ended; open: it never did"),
            _RUN,
        ),
        ("scenario", "arrived_at", "order_id"),
    ),
    Table(
        "backtest.fills",
        "Executions, each with the evidence it rests on and the exact fee.",
        PartitionedBy.STRATEGY_MARKET,
        (
            _STRATEGY,
            _SCENARIO,
            _MARKET_KEY,
            _OUTCOME,
            _text("order_id", "see backtest.orders"),
            Column("ts", Kind.TIME, "when it traded"),
            _text("side", "buy or sell"),
            Column("price", Kind.MICRO, "dollars per contract, average over the levels taken"),
            Column("size", Kind.MICRO, "contracts"),
            Column("cash", Kind.MICRO, "change of cash by price and size, before the fee"),
            Column("fee", Kind.MICRO, "dollars"),
            _text("liquidity", "taker or maker; none: a full set, which needs nobody"),
            _text(
                "evidence", "l2: recorded depth; bbo: best bid and ask; trade; mid: a declared half-spread"
            ),
            _maybe("decision_price", Kind.MICRO, "mid of this outcome when the decision was taken"),
            _maybe("slippage", Kind.MICRO, "dollars per contract lost against the decision price"),
            _RUN,
        ),
        ("scenario", "ts", "order_id"),
    ),
    Table(
        "backtest.rejections",
        "Everything that was wanted and not done, each with its reason.",
        PartitionedBy.STRATEGY_MARKET,
        (
            _STRATEGY,
            _SCENARIO,
            _MARKET_KEY,
            _maybe("outcome_index", Kind.INT, "which outcome; null: the whole market"),
            Column("ts", Kind.TIME, "when"),
            _text("reason", "code, for example no_quote, below_min_size, insufficient_cash"),
            _text("detail", "the figures behind it"),
            _RUN,
        ),
        ("scenario", "ts", "reason"),
    ),
    Table(
        "backtest.trips",
        "Round trips: an entry, and its exit or settlement, with the profit after fees.",
        PartitionedBy.STRATEGY_MARKET,
        (
            _STRATEGY,
            _SCENARIO,
            _MARKET_KEY,
            _OUTCOME,
            _maybe("group_key", Kind.TEXT, "the event: trips of one event are one bet"),
            Column("entered_at", Kind.TIME, "first fill"),
            Column("exited_at", Kind.TIME, "last exit fill, or when the payout came"),
            Column("size", Kind.MICRO, "contracts"),
            Column("cost", Kind.MICRO, "dollars paid, without fees"),
            Column("proceeds", Kind.MICRO, "dollars received, payout or refund included"),
            Column("fees", Kind.MICRO, "dollars"),
            Column("pnl", Kind.MICRO, "proceeds - cost - fees"),
            _text("ended_by", "signal, stop, target, trailing, time, quote, set, settlement, void or open"),
            _maybe("payout", Kind.MICRO, "dollars per contract at settlement, of this outcome"),
            _maybe("p_hat", Kind.STAT, "the strategy's probability at entry"),
            _maybe("p_market", Kind.STAT, "the market's mid at entry"),
            _maybe("closing_price", Kind.MICRO, "last mid of this outcome before trading ended"),
            _text("evidence", "the weakest evidence among its fills"),
            Column("hindsight_close", Kind.FLAG, "the decision counted back from a close learned afterwards"),
            _RUN,
        ),
        ("scenario", "entered_at", "outcome_index"),
    ),
    Table(
        "backtest.metrics",
        "Headline figures of one strategy on one market.",
        PartitionedBy.STRATEGY_MARKET,
        (
            _STRATEGY,
            _SCENARIO,
            _MARKET_KEY,
            _text("metric", "name; see research.metrics"),
            _maybe("value", Kind.STAT, "the figure; null: undefined"),
            _text("note", "why it is undefined, or empty"),
            _RUN,
        ),
        ("scenario", "metric"),
    ),
    Table(
        "backtest.portfolio_equity",
        "Equity of the one bankroll on a fixed clock.",
        PartitionedBy.RUN_STRATEGY,
        (
            _RUN,
            _STRATEGY,
            _SCENARIO,
            Column("ts", Kind.TIME, "clock"),
            Column("cash", Kind.MICRO, "dollars free"),
            Column(
                "positions",
                Kind.MICRO,
                "what open positions would bring: the last bid known; cost if nobody ever bid",
            ),
            Column(
                "locked", Kind.MICRO, "positions in closed markets that are not paid yet, at their last mark"
            ),
            Column("equity", Kind.MICRO, "cash + positions + locked"),
            Column("open_positions", Kind.INT, "positions held"),
        ),
        ("strategy", "scenario", "ts"),
    ),
    Table(
        "backtest.portfolio_metrics",
        "Headline figures of each strategy's portfolio.",
        PartitionedBy.RUN_STRATEGY,
        (
            _RUN,
            _STRATEGY,
            _SCENARIO,
            _text("metric", "name; see research.metrics"),
            _maybe("value", Kind.STAT, "the figure; null: undefined"),
            _text("note", "why it is undefined, or empty"),
        ),
        ("strategy", "scenario", "metric"),
    ),
    Table(
        "backtest.portfolio_fills",
        "Executions of the portfolio run.",
        PartitionedBy.RUN_STRATEGY,
        (),
        ("strategy", "scenario", "ts", "order_id"),
    ),
    Table(
        "backtest.portfolio_trips",
        "Round trips of the portfolio run.",
        PartitionedBy.RUN_STRATEGY,
        (),
        ("strategy", "scenario", "entered_at", "market_key", "outcome_index"),
    ),
    Table(
        "backtest.portfolio_rejections",
        "What the portfolio run refused, and every market that it could not test, with the reason.",
        PartitionedBy.RUN_STRATEGY,
        (),
        ("strategy", "scenario", "ts", "market_key", "reason"),
    ),
    Table(
        "backtest.risk_events",
        "What the risk manager of a portfolio run refused, trimmed, and changed of its state.",
        PartitionedBy.RUN_STRATEGY,
        (
            _RUN,
            _STRATEGY,
            _SCENARIO,
            Column("ts", Kind.TIME, "when"),
            Column("number", Kind.INT, "order of the events of a scenario, from 0"),
            _text("kind", "denied, trimmed, tripped or resumed"),
            _text("rule", "step of the evaluation; see docs/risk.md"),
            _text("reason", "code within the step"),
            _maybe("value", Kind.MICRO, "what was found, in the unit of the code: docs/risk.md"),
            _maybe("limit_value", Kind.MICRO, "what is allowed, in the same unit"),
            _maybe("market_key", Kind.TEXT, "venue:native_id; null: the whole bankroll"),
            _maybe("outcome_index", Kind.INT, "which outcome of the market, from 0"),
            _maybe("decision_id", Kind.TEXT, "what the id of the order begins with, if there was one"),
            _text("detail", "the figures behind it"),
            _text("state_before", "active, reducing or halted"),
            _text("state_after", "active, reducing or halted"),
        ),
        ("strategy", "scenario", "number"),
    ),
    Table(
        "ops.coverage",
        "What was asked of a source and what came: a short answer is visible, with its reason.",
        PartitionedBy.TABLE_PARTITION,
        (
            _text("table_name", "table that was filled"),
            _text("partition", "its partition"),
            _text("source", "endpoint"),
            _text("status", "complete, empty, unsupported, frozen, quiet or failed: see warehouse.coverage"),
            _maybe("asked_from", Kind.TIME, "start of the window asked"),
            _maybe("asked_to", Kind.TIME, "end of the window asked"),
            _maybe("got_from", Kind.TIME, "first row"),
            _maybe("got_to", Kind.TIME, "last row"),
            Column("rows", Kind.COUNT, "how many rows came"),
            Column("gaps", Kind.INT, "breaks found"),
            _text("reason", "why it is short or empty; empty: complete"),
            Column("ingested_at", Kind.TIME, "when we read it"),
        ),
        ("table_name", "source"),
    ),
)

_SAME_COLUMNS: Final = {
    "backtest.portfolio_fills": "backtest.fills",
    "backtest.portfolio_trips": "backtest.trips",
    "backtest.portfolio_rejections": "backtest.rejections",
}


def _complete() -> dict[str, Table]:
    tables = {table.name: table for table in _DECLARED}
    for name, model in _SAME_COLUMNS.items():
        table = tables[name]
        tables[name] = Table(
            name, table.meaning, table.partitioned_by, tables[model].columns, table.sorted_by
        )
    return tables


TABLES: Final[dict[str, Table]] = _complete()
"""All tables by their full name."""


def table(name: str) -> Table:
    """The table of this name. Raises :class:`UsageError` with the nearest names."""
    if name not in TABLES:
        raise UsageError(f"there is no table {name!r}{did_you_mean(name, TABLES)}")
    return TABLES[name]
