"""What was quoted, traded, held and recorded."""

from typing import Final

from pm_pipeline.warehouse.columns import Column, Encoding, Kind, PartitionedBy, Table
from pm_pipeline.warehouse.schema.parts import MARKET_KEY, NONE, OBSERVED, OUTCOME, maybe, text

MARKET_DATA: Final = (
    Table(
        "market_data.prices",
        "Mid points, and bid and ask where the venue gives them. A mid cannot be traded.",
        PartitionedBy.MARKET,
        (
            MARKET_KEY,
            OUTCOME,
            *OBSERVED,
            maybe("mid", Kind.MICRO, "half-way between bid and ask"),
            maybe("bid", Kind.MICRO, "best bid; null: not given, or nobody bids"),
            maybe("ask", Kind.MICRO, "best offer; null: not given, or nobody offers"),
            Column("resolution_s", Kind.INT, "seconds that one point stands for; 0: a single observation"),
            text("source", "endpoint that said so"),
        ),
        ("outcome_index", "ts"),
    ),
    Table(
        "market_data.candles",
        "Candlesticks of bid, ask and trades; ts is the end of the candle.",
        PartitionedBy.MARKET,
        (
            MARKET_KEY,
            OUTCOME,
            *OBSERVED,
            Column("period_s", Kind.INT, "length in seconds"),
            *(
                maybe(f"{what}_{point}", Kind.MICRO, f"{point} of the {what}")
                for what in ("bid", "ask", "price")
                for point in ("open", "high", "low", "close")
            ),
            Column("volume", Kind.MICRO, "contracts traded"),
            maybe("open_interest", Kind.MICRO, "contracts outstanding at the end"),
        ),
        ("outcome_index", "period_s", "ts"),
    ),
    Table(
        "market_data.trades",
        "Taker executions; rows that are alike are kept, told apart by their ordinal.",
        PartitionedBy.MARKET,
        (
            MARKET_KEY,
            OUTCOME,
            *OBSERVED,
            text("trade_id", "the venue's id, or the transaction"),
            Column("ordinal", Kind.INT, "counts rows that are alike in all else"),
            Column(
                "price", Kind.MICRO, "dollars per contract; the average of the taker's match", listed=True
            ),
            Column("size", Kind.MICRO, "contracts"),
            text("side", "what the taker did with this outcome: buy or sell"),
            text("side_evidence", "onchain, feed or inferred"),
            maybe("wallet", Kind.TEXT, "the taker's address, where public"),
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
            MARKET_KEY,
            OUTCOME,
            *OBSERVED,
            maybe("block", Kind.COUNT, "number of the block; null: the source does not say"),
            maybe("log_index", Kind.INT, "place of the log in its block; null: the source does not say"),
            Column("tx", Kind.HASH, "hash of the transaction"),
            Column("order_hash", Kind.HASH, "hash of the order that was filled"),
            Column("wallet", Kind.ADDRESS, "owner of that order"),
            text("role", "taker: the active order of the match; maker: an order that rested"),
            text("side", "what the wallet did with this outcome: buy or sell"),
            text(
                "side_evidence",
                "who took: onchain, the exchange names the active order; inferred: it does not",
            ),
            maybe("price", Kind.MICRO, "cash / size, to the nearest millionth, ties to even; null: no size"),
            Column("size", Kind.MICRO, "contracts"),
            Column("cash", Kind.MICRO, "dollars that changed hands for them, without the fee"),
            Column("fee", Kind.MICRO, "fee in the log; V1 refunded part of it afterwards"),
            text("fee_unit", "what the fee is counted in: dollars or contracts"),
            text("balance", "amounts of the match: exact, refund, broken or alone; see docs/polymarket.md"),
            Column("counts_volume", Kind.FLAG, "its rows sum to what was traded, every match once"),
            text(
                "source", "where the log was read, and the contract: goldsky:v1, rpc:v2, file:v2-neg-risk …"
            ),
        ),
        ("ts", "log_index", "tx", "order_hash"),
    ),
    Table(
        "market_data.trade_bars",
        "Trades in bars of equal length, of one outcome each; ts is the end of the bar. No bar: no trade.",
        PartitionedBy.MARKET,
        (
            MARKET_KEY,
            OUTCOME,
            *OBSERVED,
            Column("period_s", Kind.INT, "length in seconds"),
            *(
                Column(point, Kind.MICRO, f"{point} of the trades", encoding=Encoding.DELTA)
                for point in ("open", "high", "low", "close")
            ),
            Column("volume", Kind.MICRO, "contracts traded", encoding=Encoding.DELTA),
            Column(
                "notional",
                Kind.MICRO,
                "dollars paid for them; over volume: average price",
                encoding=Encoding.DELTA,
            ),
            Column(
                "bought", Kind.MICRO, "contracts of the volume that takers bought", encoding=Encoding.DELTA
            ),
            Column("trades", Kind.COUNT, "rows of market_data.trades in the bar"),
        ),
        ("outcome_index", "period_s", "ts"),
        hot=(
            *("outcome_index", "ts", "known_at", "open", "high", "low", "close"),
            *("volume", "notional", "bought", "trades"),
        ),
    ),
    Table(
        "market_data.wallet_activity",
        "What a wallet did, as the venue's feed tells it: trades, splits, merges, redemptions, rewards.",
        PartitionedBy.WALLET,
        (
            text("wallet", "address, in small letters"),
            *OBSERVED,
            text("kind", "trade, split, merge, redeem, tip_in, tip_out, reward, …: the venue's name, small"),
            maybe("market_key", Kind.TEXT, "venue:native_id; null: no market, or one that the catalog lacks"),
            maybe("condition_id", Kind.TEXT, "Polymarket condition id"),
            maybe("token_id", Kind.TEXT, "the venue's id of the outcome"),
            maybe("outcome_index", Kind.INT, "which outcome of the market, from 0"),
            maybe("side", Kind.TEXT, "of a trade: buy or sell"),
            maybe("price", Kind.MICRO, "dollars per contract"),
            Column("size", Kind.MICRO, "contracts"),
            maybe("cash", Kind.MICRO, "dollars that moved, fees included"),
            text("tx", "hash of the transaction"),
            Column("ordinal", Kind.INT, "counts rows that are alike in all else"),
            text("source", "endpoint that said so"),
        ),
        ("ts", "tx", "ordinal"),
    ),
    Table(
        "market_data.wallet_positions",
        "What a wallet held whenever it was looked at: every reading is kept.",
        PartitionedBy.WALLET,
        (
            text("wallet", "address, in small letters"),
            *OBSERVED,
            maybe("market_key", Kind.TEXT, "venue:native_id; null: a market that the catalog lacks"),
            text("condition_id", "Polymarket condition id"),
            text("token_id", "the venue's id of the outcome"),
            maybe("outcome_index", Kind.INT, "which outcome of the market, from 0; null: unlabelled"),
            Column("size", Kind.MICRO, "contracts held"),
            maybe("bought", Kind.MICRO, "contracts ever bought"),
            maybe("avg_price", Kind.MICRO, "average dollars paid per contract"),
            maybe("realised_pnl", Kind.MICRO, "dollars gained and lost so far, as the venue counts"),
            text("status", "the venue's word: open, redeemable or closed"),
            text("source", "endpoint that said so"),
        ),
        ("ts", "condition_id", "token_id"),
    ),
    Table(
        "market_data.holders",
        "The largest holders of each outcome whenever they were looked at: every reading is kept.",
        PartitionedBy.MARKET,
        (
            MARKET_KEY,
            OUTCOME,
            *OBSERVED,
            Column("rank", Kind.INT, "place by size, from 1"),
            text("wallet", "address, in small letters"),
            Column("size", Kind.MICRO, "contracts held, less those of the other outcome"),
            text("source", "endpoint that said so"),
        ),
        ("ts", "outcome_index", "rank"),
    ),
    Table(
        "market_data.leaderboard",
        "The wallets that the venue ranks first, as of each reading; hindsight by nature: see known_at.",
        PartitionedBy.DAY,
        (
            *OBSERVED,
            text("period", "what is summed: day, week, month or all"),
            text("ranked_by", "pnl or volume"),
            Column("rank", Kind.INT, "place, from 1"),
            text("wallet", "address, in small letters"),
            maybe("pnl", Kind.MICRO, "dollars gained or lost, as the venue counts"),
            maybe("volume", Kind.MICRO, "contracts traded (not dollars)"),
            text("source", "endpoint that said so"),
        ),
        ("ts", "period", "ranked_by", "rank"),
    ),
    Table(
        "market_data.book_events",
        "The order book of outcome 0 as a log: resets, levels set to an absolute size, gaps.",
        PartitionedBy.MARKET,
        (
            MARKET_KEY,
            *OBSERVED,
            Column("seq", Kind.COUNT, "order within the market; rows of one venue message share it"),
            text("kind", "reset: the book is emptied and rebuilt by the levels of this seq; level; gap"),
            Column("side", Kind.TEXT, "bid or ask (of outcome 0); null for reset and gap", True, absent=""),
            Column("price", Kind.MICRO, "dollars per contract", True, listed=True, absent=NONE),
            Column("size", Kind.MICRO, "contracts now at this price; 0: none", True, absent=NONE),
        ),
        ("seq",),
        hot=("seq", "kind", "side", "price", "size"),
    ),
)
