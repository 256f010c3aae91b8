"""CLOB: the records of markets, which name the winner once there is one."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pm_pipeline.markets.resolution import ResolutionStatus
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.sources.sandbox.wire import Refusal, answer, iso, real, world_of
from pm_pipeline.sources.sandbox.world import WorldMarket


def market_json(market: WorldMarket) -> dict[str, object]:
    """One market as the CLOB prints it; ``winner`` is set by the payout, and for nobody in a 50-50."""
    listed, resolution = market.market, market.resolution
    payouts = resolution.payouts
    closed = payouts is not None
    group = listed.group_key if listed.exclusive_group else ""
    end = listed.scheduled_close
    return {
        "accepting_order_timestamp": None if listed.opened_at is None else iso(listed.opened_at),
        "accepting_orders": resolution.status is ResolutionStatus.OPEN,
        "active": not market.inactive,
        "archived": False,
        "closed": closed,
        "condition_id": listed.condition_id,
        "description": listed.rules_text or "",
        "enable_order_book": not closed,
        "end_date_iso": None if end is None else iso(end),
        "fpmm": "",
        "game_start_time": None,
        "icon": "",
        "image": "",
        "is_50_50_outcome": closed and MICRO not in (payouts or ()),
        "maker_base_fee": 0,
        "market_slug": listed.slug,
        "minimum_order_size": listed.min_order_size // MICRO,
        "minimum_tick_size": real(min(r.step for r in listed.ticks)),
        "neg_risk": listed.exclusive_group,
        "neg_risk_market_id": group,
        "neg_risk_request_id": "",
        "notifications_enabled": True,
        "question": listed.question,
        "question_id": listed.question_id,
        "rewards": {"max_spread": 0, "min_size": 0, "rates": None},
        "seconds_delay": 0,
        "tags": list(listed.tags),
        "taker_base_fee": 0,
        "tokens": [
            {
                "outcome": outcome.label,
                "price": _price(payouts, outcome.outcome_index),
                "token_id": outcome.token_id,
                "winner": payouts is not None and payouts[outcome.outcome_index] == MICRO,
            }
            for outcome in listed.instruments
        ],
    }


def _price(payouts: tuple[Micro, ...] | None, outcome: int) -> float:
    return 0.5 if payouts is None else real(payouts[outcome])


def one_market(request: Request) -> Response:
    """``/markets/{condition_id}``."""
    market = world_of(request).by_condition.get(request.path_params["condition_id"])
    if market is None:
        raise Refusal(404, "market not found")
    return answer(market_json(market))


ROUTES: Final = [Route("/markets/{condition_id}", one_market)]
"""Paths of clob.polymarket.com beside those of books and prices."""
