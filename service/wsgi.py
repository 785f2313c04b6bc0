"""What the WSGI server imports: the settings of the environment, put together."""

from service import config, log
from service.app import create_app
from service.bootstrap import build

settings = config.load()
log.configure(settings.log_level, settings.log_format)
app = create_app(settings, build(settings))
