"""Fields of Polymarket's answers that we know of and do not read, by record.

They were seen in recorded answers, or stand in the venue's reference or clients up to October 2026. With what
a record reads they are all that it may hold: any other field is drift, see
:mod:`pm_pipeline.sources.drift`. A field that we begin to read moves from here into its record.
"""

from typing import Final


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


GAMMA_MARKET: Final = _names("""
    $schema ammType approved archived automaticallyActive automaticallyResolved bestAsk bestBid
    categories categoryMailchimpTag chartColor clearBookOnStart clobRewards comboStatus
    commentsEnabled competitive createdBy creator curationOrder customLiveness cyom
    denominationToken deploying deployingTimestamp disqusThread endDateIso eventStartTime featured
    fee feeExponent feeRate feeType formatType fpmmLive funded fundedTimestamp gameId gameStartTime
    groupItemRange groupItemThreshold groupItemTitle hasReviewedDates holdingRewardsEnabled icon
    iconOptimized image imageOptimized internalUsers lastTradePrice line liquidity liquidityAmm
    liquidityClob liquidityNum lowerBound lowerBoundDate mailchimpTag makerBaseFee
    makerRebatesFeeShareBps manualActivation marketGroup marketMakerAddress markets marketType
    negRiskRequestID new notificationsEnabled oneDayPriceChange oneHourPriceChange
    oneMonthPriceChange oneWeekPriceChange oneYearPriceChange pagerDutyNotificationEnabled pastSlugs
    pendingDeployment ready readyForCron readyTimestamp requiresTranslation resolvedBy restricted
    rewardsMaxSpread rewardsMinSize rfqEnabled scheduledDeploymentTimestamp score secondsDelay
    sentDiscord seriesColor shortOutcomes showGmpOutcome showGmpSeries sponsorImage sponsorName
    sportsMarketType spread startDateIso subcategory submitted_by takerBaseFee teamAID teamBID
    twitterCardImage twitterCardLastRefreshed twitterCardLastValidated twitterCardLocation umaBond
    umaEndDateIso umaReward updatedAt updatedBy upperBound upperBoundDate version volume1mo
    volume1moAmm volume1moClob volume1wk volume1wkAmm volume1wkClob volume1yr volume1yrAmm
    volume1yrClob volume24hr volume24hrAmm volume24hrClob volumeAmm volumeClob wideFormat xAxisValue
    yAxisValue
""")
"""A market of Gamma."""

GAMMA_EVENT: Final = _names("""
    $schema active archived automaticallyActive automaticallyResolved awayTeamName bestLines
    cantEstimate carouselMap categories chats closed closedTime collections color commentCount
    commentsEnabled competitive countryName createdAt createdBy creationDate cumulativeMarkets cyom
    deploying deployingTimestamp description disqusThread elapsed electionType enableNegRisk
    enableOrderBook ended estimatedValue estimateValue eventCreators eventDate eventMetadata
    eventPartners eventWeek externalPartners featured featuredImage featuredImageOptimized
    featuredOrder finishedTimestamp gameId gameStatus gmpChartMode homeTeamName icon iconOptimized
    image imageOptimized internalUsers isTemplate lastHighlight lastHighlightAt lastHighlightType
    layout liquidity liquidityAmm liquidityClob live metadata negRisk negRiskFeeBips negRiskMarketID
    new openInterest parentEvent parentEventId partners pendingDeployment period published_at
    publishedAt recurrence requiresTranslation rescheduledFromGameId resolutionSource restricted
    scheduledDeploymentTimestamp score seriesType showAllOutcomes showMarketImages sortBy sport
    sportsradarMatchId spreadsMainLine startTime subcategory subEvents subtitle tag_labels tag_slugs
    teams templates templateVariables ticker totalsMainLine tweetCount updatedAt updatedBy version
    volume1mo volume1wk volume1yr volume24hr
""")
"""An event of Gamma."""

TAG: Final = _names("""
    activeEventsCount createdAt createdBy forceHide forceShow id isCarousel publishedAt
    requiresTranslation updatedAt updatedBy
""")
"""A tag of Gamma."""

SERIES: Final = _names("""
    id
    active archived categories cgAssetName chats closed collections commentCount commentsEnabled
    competitive createdAt createdBy description events featured icon id image isTemplate layout
    liquidity new publishedAt pythTokenID recurrence requiresTranslation restricted score seriesType
    startDate subtitle tags templateVariables ticker title updatedAt updatedBy volume volume24hr
""")
"""A series of Gamma."""

BOOK: Final = _names("""
    hash last_trade_price market min_order_size neg_risk tick_size
""")
"""A book of the CLOB. All of it is hashed."""

CLOB_MARKET: Final = _names("""
    accepting_order_timestamp accepting_orders active archived description enable_order_book
    end_date_iso fpmm game_start_time icon image maker_base_fee market_slug minimum_order_size
    minimum_tick_size neg_risk neg_risk_market_id neg_risk_request_id notifications_enabled question
    question_id rewards seconds_delay tags taker_base_fee
""")
"""A market of the CLOB."""

CLOB_TOKEN: Final = frozenset({"price"})
"""An outcome of a market of the CLOB."""

PAGINATION: Final = _names("""
    limit offset
""")
"""The tail of an envelope of the Data API; ``offset`` means nothing."""

TRADE: Final = _names("""
    bio event_slug icon name outcome outcome_index profile_image profile_image_optimized pseudonym
    slug title
""")
"""A row of ``/v2/trades``."""

RESOLUTION: Final = _names("""
    expected_settlement_time extended_review log_index new_version_q proposed_price question_id
    reporter reproposed_price resolution_source resolved_block settlement_time_basis
    transaction_hash was_arbitrated
""")
"""A row of ``/v2/resolutions``."""

POSITION: Final = _names("""
    archived current_price current_value end_date entry_cost_usdc entry_fees_usdc event_id
    event_slug first_entry_at icon last_event_at mergeable name negative_risk opposite_outcome
    opposite_token_id outcome percent_pnl percent_realized_pnl profile_image redeemable slug title
    total_cost_usdc total_pnl unrealized_pnl verified
""")
"""A row of ``/v2/positions``."""

ACTIVITY: Final = _names("""
    bio event_slug icon is_combo name outcome profile_image profile_image_optimized pseudonym slug
    title
""")
"""A row of ``/v2/activity``; ``is_combo`` stands on trades of combos alone."""

HOLDER: Final = _names("""
    avg_price bio current_price current_value display_username_public entry_cost_usdc name
    outcome_index profile_image profile_image_optimized pseudonym realized_pnl token_id total_pnl
    unrealized_pnl verified
""")
"""A holder in ``/v2/holders``; those in dollars come only where they are asked for."""

LEADER: Final = _names("""
    profile_image user_name verified x_username
""")
"""A row of ``/v2/leaderboard``."""
