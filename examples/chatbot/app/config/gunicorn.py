"""gunicorn -c config/gunicorn.py; HUP starts new workers with the code and settings of now."""

from config.environment import setting

wsgi_app = "config.wsgi:application"
bind = setting("BIND", "127.0.0.1:8000")
worker_class = "gthread"
workers = int(setting("WORKERS", "2"))
threads = 4
timeout = 30
graceful_timeout = 10
keepalive = 5
control_socket_disable = True  # it would lie in the home directory, one for all applications of a user
preload_app = False  # a preloaded application would survive HUP unchanged

# Where `config/reload.py` finds the process to tell.
pidfile = setting("PIDFILE", "") or None
