"""HikerAPI's bodies, for the specification: names are in snake_case, as there."""

from __future__ import annotations

from marshmallow import INCLUDE, Schema, fields


class HikerErrorSchema(Schema):
    """An error as HikerAPI tells it."""

    detail = fields.Str(required=True, metadata={"description": "a sentence for a person"})
    exc_type = fields.Str(required=True, metadata={"example": "UserNotFound"})


class HikerFundsSchema(Schema):
    """Too few credits are left for the call."""

    state = fields.Bool(required=True, metadata={"example": False})
    error = fields.Str(required=True)
    exc_type = fields.Str(required=True, metadata={"example": "InsufficientFunds"})


class HikerComplaintSchema(Schema):
    """What is wrong with one parameter, in FastAPI's form."""

    loc = fields.List(fields.Str(), required=True, metadata={"example": ["query", "user_id"]})
    msg = fields.Str(required=True)
    type = fields.Str(required=True, metadata={"example": "value_error"})


class HikerInvalidSchema(Schema):
    """Parameters are missing or make no sense."""

    detail = fields.List(fields.Nested(HikerComplaintSchema), required=True)


class HikerUserShortSchema(Schema):
    """An account, in eight fields."""

    pk = fields.Str(required=True)
    id = fields.Str(allow_none=True)
    username = fields.Str(allow_none=True)
    full_name = fields.Str()
    profile_pic_url = fields.Str(allow_none=True)
    profile_pic_url_hd = fields.Str(allow_none=True)
    is_private = fields.Bool(allow_none=True)
    is_verified = fields.Bool(allow_none=True)


class HikerStorySchema(Schema):
    """A story in v1 form."""

    pk = fields.Str(required=True)
    id = fields.Str(required=True)
    code = fields.Str(required=True)
    taken_at = fields.Str(required=True, metadata={"format": "date-time"})
    media_type = fields.Int(required=True, metadata={"description": "1 photo, 2 video"})
    product_type = fields.Str(required=True)
    thumbnail_url = fields.Str(allow_none=True)
    user = fields.Nested(HikerUserShortSchema, required=True)
    video_url = fields.Str(allow_none=True)
    video_duration = fields.Float()
    sponsor_tags = fields.List(fields.Dict())
    mentions = fields.List(fields.Dict())
    links = fields.List(fields.Dict())
    hashtags = fields.List(fields.Dict())
    locations = fields.List(fields.Dict())
    stickers = fields.List(fields.Dict())
    medias = fields.List(fields.Dict())


class HikerHighlightSchema(Schema):
    """A highlight in v1 form; in a list of them `items` is empty."""

    pk = fields.Str(required=True)
    id = fields.Str(required=True, metadata={"example": "highlight:17983616051768088"})
    latest_reel_media = fields.Int()
    cover_media = fields.Dict()
    user = fields.Nested(HikerUserShortSchema, required=True)
    title = fields.Str(required=True)
    created_at = fields.Str(metadata={"format": "date-time"})
    is_pinned_highlight = fields.Bool()
    media_count = fields.Int()
    media_ids = fields.List(fields.Int())
    items = fields.List(fields.Nested(HikerStorySchema), required=True)


class HikerReelSchema(Schema):
    """The mobile API's story feed; `reel` is null where there is no story."""

    broadcast = fields.Dict(allow_none=True)
    reel = fields.Dict(required=True, allow_none=True)
    unviewable_authors_info = fields.Dict(allow_none=True)
    status = fields.Str(metadata={"example": "ok"})


class HikerResponseSchema(Schema):
    """What Instagram has, in an envelope."""

    response = fields.Dict(required=True)
    next_page_id = fields.Str(allow_none=True, metadata={"description": "null: there is one page"})


class HikerUserSchema(Schema):
    """An account as Instagram sends it: these fields and many more."""

    class Meta:
        unknown = INCLUDE

    pk = fields.Raw(required=True, metadata={"description": "text; in v2 an integer without safe_int"})
    username = fields.Str()


class HikerUserInfoSchema(Schema):
    """The raw account of v2."""

    user = fields.Nested(HikerUserSchema, required=True)
    status = fields.Str(metadata={"example": "ok"})


class HikerShareSchema(Schema):
    """What a share link shares."""

    pk = fields.Int(required=True)
    type = fields.Str(required=True, metadata={"example": "highlight"})


class HikerBalanceSchema(Schema):
    """What is left, in requests; `rate` is how many may be made a second."""

    requests = fields.Int(required=True)
    rate = fields.Int(required=True)
    currency = fields.Str(required=True)
    amount = fields.Float(required=True)
