"""The app: a server for one reader on this machine, the page it serves, and the same page as a notebook widget.

`page/` is built from `web/` (see CONTRIBUTING); everything that takes its time runs in a worker process.
"""

from transect.lazy import publish

publish(__name__, lambda: {"serve": "transect.app.server:serve", "widget": "transect.app.widget:widget"})
