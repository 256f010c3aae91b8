from dataclasses import replace

from pm_pipeline.markets import MarketKey, Side, SideEvidence, Trade


def test_two_trades_alike_in_all_else_are_told_apart_by_their_ordinal() -> None:
    trade = Trade(
        market_key=MarketKey.parse("polymarket:1"),
        outcome_index=0,
        ts=1,
        known_at=2,
        price=520_000,
        size=5_000_000,
        side=Side.BUY,
        side_evidence=SideEvidence.ONCHAIN,
        trade_id="0xabc",
    )
    assert len({trade, replace(trade), replace(trade, ordinal=1)}) == 2
