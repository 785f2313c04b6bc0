"""Raw stories and highlights in the form of HikerAPI's v1, and the way back."""

from service.domain.renditions.highlights import highlight
from service.domain.renditions.raw_items import raw_item
from service.domain.renditions.stories import stories, story

__all__ = ["highlight", "raw_item", "stories", "story"]
