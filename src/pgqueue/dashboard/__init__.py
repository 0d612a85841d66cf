"""Pages that show a queue and mend it, for operators (extra `dashboard`).

from pgqueue.dashboard import Dashboard, User

app.mount("/queue", Dashboard(client, auth=lambda request: User("ada", "operator")))
"""

from pgqueue.dashboard.app import Dashboard
from pgqueue.dashboard.hiding import hide_payload
from pgqueue.dashboard.users import User, Users, user_line

__all__ = ["Dashboard", "User", "Users", "hide_payload", "user_line"]
