"""What the WSGI server imports: the settings of the environment, put together."""

import threading

from service import config, lifecycle, log
from service.app import create_app
from service.bootstrap import build

settings = config.load()
log.configure(settings.log_level, settings.log_format)
stopping = threading.Event()
app = create_app(settings, build(settings), stopping)
lifecycle.watch(stopping)
lifecycle.settle_in()
