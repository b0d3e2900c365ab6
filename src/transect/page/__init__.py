"""The app: a server for one reader on this machine, the page it serves, and the same page as a notebook
widget.

`built/` is built from `web/` (see CONTRIBUTING); everything that takes its time runs in a worker process.
"""

from transect import publish

publish(__name__, lambda: {"serve": "transect.page.server:serve", "widget": "transect.page.widget:widget"})
